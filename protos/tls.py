"""TLS of both sides of a call, from PEM files that are looked at before gRPC gets them.

gRPC takes any bytes for a certificate; a server then fails as if its port were taken, and a client never connects.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from ..errors import DataError, UsageError

__all__ = ["Tls", "server_credentials"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a channel; PEM files. Without `root` the system's certificates are trusted.

    `certificate` and `key` prove the client to a server that asks; `server_name` is the name to expect in
    the server's certificate where it differs from the address.
    """

    root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises UsageError for a certificate without its key, DataError for a file that is not to be used."""
        if (self.certificate is None) != (self.key is None):
            raise UsageError("a client certificate and its key are given together")
        certificate = key = None
        if self.certificate is not None and self.key is not None:
            certificate, key = _pair(self.certificate, self.key)
        return grpc.ssl_channel_credentials(_root(self.root), key, certificate)


def server_credentials(certificate: Path, key: Path, client_root: Path | None) -> grpc.ServerCredentials:
    """Of a server; with `client_root`, clients must show a certificate that it signed. DataError as `Tls`."""
    chain, secret = _pair(certificate, key)
    root = _root(client_root)
    return grpc.ssl_server_credentials([(secret, chain)], root, require_client_auth=root is not None)


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """The bytes of a certificate and its key."""
    read = _read(certificate), _read(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong a key must be is gRPC's business
    try:
        # An empty password: nobody is there to be asked for one.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        raise DataError(f"{certificate} and {key} are no PEM certificate with its unencrypted key") from None
    return read


def _root(path: Path | None) -> bytes | None:
    if path is None:
        return None
    read = _read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise DataError(f"{path} has no PEM certificate to trust") from None
    return read


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
