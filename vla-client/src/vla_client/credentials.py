"""What a client shows a server and asks of it: an API key, a certificate, and one that it can check."""

import os
import ssl
from dataclasses import dataclass, field
from typing import Optional

API_KEY_VARIABLE = "VLA_API_KEY"
CA_FILE_VARIABLE = "VLA_CA_FILE"
CLIENT_CERT_VARIABLE = "VLA_CLIENT_CERT"


@dataclass(frozen=True)
class Credentials:
    """An API key, and files in PEM: the CA that signed the server's certificate, and a certificate with its key.

    What is None comes from the environment: `VLA_API_KEY`, `VLA_CA_FILE` and `VLA_CLIENT_CERT`. Without a CA it is the
    system's; the certificate is for servers that ask for one.
    """

    api_key: Optional[str] = field(default=None, repr=False)
    ca_file: Optional[str] = None
    client_cert: Optional[str] = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        api_key = (self.api_key or os.environ.get(API_KEY_VARIABLE, "")).strip()
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def tls(self, url: str) -> Optional[ssl.SSLContext]:
        """Return how to check the certificate of the server at `url`; None where it uses no TLS.

        Raises:
            OSError: a file cannot be read, or the one with the certificate lacks its key.
        """
        if not url.startswith(("wss:", "https:")):
            return None
        context = ssl.create_default_context(cafile=self.ca_file or os.environ.get(CA_FILE_VARIABLE) or None)
        if client_cert := self.client_cert or os.environ.get(CLIENT_CERT_VARIABLE):
            context.load_cert_chain(client_cert)
        return context
