"""A certificate from files, which can be read again while a server goes on."""

from __future__ import annotations

import os
import ssl
from typing import TypeAlias

__all__ = ["Certificate", "TlsFiles"]

_Path: TypeAlias = str | os.PathLike[str]

TlsFiles: TypeAlias = _Path | tuple[_Path, _Path]
"""A PEM file with a certificate, its chain and its key, or one with the certificate and one with the key."""


class Certificate:
    """What a server shows its clients.

    Args:
        files: where it is; the key must not be encrypted.

    Attributes:
        context: for the server: TLS 1.2 or newer, with what Python thinks safe.

    Raises:
        OSError: a file cannot be read, or is not what it should be (ssl.SSLError).
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files: tuple[_Path, _Path | None] = files if isinstance(files, tuple) else (files, None)
        self.context: ssl.SSLContext = self._loaded(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def reload(self) -> None:
        """Read the files again, for connections from now on; if they cannot be used, all stays as it is.

        Raises:
            OSError: see above.
        """
        self._loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a failure may leave a context half changed
        self._loaded(self.context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.load_cert_chain(*self._files, password="")  # or OpenSSL would ask on the terminal
        return context
