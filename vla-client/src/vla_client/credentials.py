"""What a client shows a server and asks of it: an API key, and a certificate that it can check."""

import os
import ssl
from dataclasses import dataclass, field
from typing import Optional

API_KEY_VARIABLE = "VLA_API_KEY"
CA_FILE_VARIABLE = "VLA_CA_FILE"


@dataclass(frozen=True)
class Credentials:
    """An API key, and a file in PEM with the CA that signed the server's certificate; the system's CAs without one.

    What is None comes from the environment: `VLA_API_KEY` and `VLA_CA_FILE`.
    """

    api_key: Optional[str] = field(default=None, repr=False)
    ca_file: Optional[str] = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        api_key = (self.api_key or os.environ.get(API_KEY_VARIABLE, "")).strip()
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def tls(self, url: str) -> Optional[ssl.SSLContext]:
        """Return how to check the certificate of the server at `url`; None where it uses no TLS.

        Raises:
            OSError: the file with the CA cannot be read.
        """
        if not url.startswith(("wss:", "https:")):
            return None
        return ssl.create_default_context(cafile=self.ca_file or os.environ.get(CA_FILE_VARIABLE) or None)
