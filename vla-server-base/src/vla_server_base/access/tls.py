"""TLS: a certificate and its key from files, checked before the server starts, and read again when they are renewed."""

import logging
import ssl
from contextlib import suppress
from pathlib import Path

from vla_server_base.config import ConfigError, ServerConfig

logger = logging.getLogger(__name__)

_EXPIRED, _NOT_YET_VALID = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID
_TIMES = {_EXPIRED: "has expired", _NOT_YET_VALID: "is not valid yet"}


class TlsCertificate:
    """What a server shows its clients. `context` is for uvicorn; each handshake asks whether the files have changed.

    Raises:
        ConfigError: a file is missing, is not what it should be, or does not fit the other one.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None):
        self.cert, self._key, self._client_ca = cert, key, client_ca
        self._seen = self._file_states()
        self.context = self._newest = self._loaded()
        # Called whether or not the client names a server.
        self.context.sni_callback = self._use_newest

    def _use_newest(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        states = self._file_states()
        if states != self._seen:
            self._seen = states
            try:
                self._newest = self._loaded()
                logger.info("read the TLS certificate %s again, which has changed", self.cert)
            except ConfigError as error:
                logger.error("%s; until then the old certificate is shown", error.as_sentence())
        if self._newest is not self.context:
            handshake.context = self._newest

    def _file_states(self) -> list[tuple[int, ...]]:
        files = [file for file in (self.cert, self._key) if file.exists()]
        return [(status.st_mtime_ns, status.st_size, status.st_ino) for status in map(Path.stat, files)]

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _check_readable("VLA_TLS_CERT", self.cert)
        _check_readable("VLA_TLS_KEY", self._key)
        try:
            context.load_cert_chain(self.cert, self._key, password=self._refuse_password)
        except ssl.SSLError as error:
            raise self._problem(error) from error
        if self._client_ca is not None:
            _check_readable("VLA_TLS_CLIENT_CA", self._client_ca)
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as error:
                raise ConfigError(
                    f"VLA_TLS_CLIENT_CA={self._client_ca} has no certificate",
                    hint="name a file in PEM with the CA that signs clients' certificates",
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        self._check_time()
        return context

    def _problem(self, error: ssl.SSLError) -> ConfigError:
        if error.reason == "KEY_VALUES_MISMATCH":
            return ConfigError(
                f"VLA_TLS_KEY={self._key} is not the key of the certificate VLA_TLS_CERT={self.cert}",
                hint="name the two files that were made together",
            )
        return ConfigError(
            f"VLA_TLS_CERT={self.cert} and VLA_TLS_KEY={self._key} cannot be read as a certificate and its key",
            hint="give both in PEM: the certificate with its chain, and the key without a password",
        )

    def _refuse_password(self) -> str:
        raise ConfigError(
            f"VLA_TLS_KEY={self._key} needs a password, which a server cannot ask for",
            hint="store it without one (openssl pkey), readable for the server's user alone",
        )

    def _check_time(self) -> None:
        """Check that the certificate is valid now, by a handshake in memory with a client that knows it."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(self.cert)
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.cert, self._key)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(to_client, to_server),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        try:
            for end in (*ends, *ends):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _TIMES:
                raise ConfigError(
                    f"the certificate VLA_TLS_CERT={self.cert} {_TIMES[error.verify_code]}",
                    hint="renew it, or correct this machine's clock",
                ) from error


def certificate_of(config: ServerConfig) -> TlsCertificate | None:
    """Return the certificate that the settings name; None without TLS.

    Raises:
        ConfigError: see `TlsCertificate`; or one setting lacks the other.
    """
    if not (config.tls_cert or config.tls_key or config.tls_client_ca):
        return None
    if not (config.tls_cert and config.tls_key):
        missing = "VLA_TLS_KEY" if config.tls_cert else "VLA_TLS_CERT"
        raise ConfigError(f"TLS needs {missing} too", hint="name the certificate and its key, both in PEM")
    client_ca = Path(config.tls_client_ca).expanduser() if config.tls_client_ca else None
    return TlsCertificate(Path(config.tls_cert).expanduser(), Path(config.tls_key).expanduser(), client_ca)


def _check_readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(
            f"{setting}={path} cannot be read: {error.strerror}", hint="name a file that this user may read"
        ) from error
