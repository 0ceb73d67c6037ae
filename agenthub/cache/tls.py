"""TLS to cache servers: certificates are always checked, and what is wrong with one is said in words."""

from __future__ import annotations

import ssl
from typing import Final

from agenthub.core.errors import SettingsError

# OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_…); Python has no names for them.
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_HOST: Final = frozenset({62, 64})


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """What a client checks: the certificate's signature (by the authorities in `ca_file`, or the system's), times and host name.

    Raises: SettingsError when the file can't be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl's own errors are among these
        raise SettingsError(["AGENTHUB_CACHE_CA_FILE can't be read as a file of certificates (PEM)"]) from error


def refusal(error: BaseException) -> str | None:
    """In words what TLS refused, if that is behind the error; nothing of what the other side sent."""
    seen: BaseException | None = error
    met: set[int] = set()  # drivers that raise an error again while handling it can make a ring of causes
    while seen is not None and id(seen) not in met:
        met.add(id(seen))
        if isinstance(seen, ssl.SSLCertVerificationError):
            return _certificate(seen.verify_code)
        if isinstance(seen, ssl.SSLError):
            return "TLS failed: the server does not speak it, or not a version that is accepted here"
        seen = seen.__cause__ or seen.__context__
    return None


def _certificate(code: int) -> str:
    if code == _EXPIRED:
        return "its certificate has expired"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet"
    if code in _OTHER_HOST:
        return "its certificate is for another host name"
    return "its certificate is not signed by an authority that is trusted here"
