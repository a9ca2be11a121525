"""TLS ended by the server itself: `tls_cert` and `tls_key`.

Rules: TLS 1.2 and 1.3 alone, OpenSSL's own choice of ciphers, no renegotiation. The files are read once, before the first fork; after a change of them
restart the server.

Specification: https://www.rfc-editor.org/rfc/rfc9325
"""

import ssl
from pathlib import Path


class TlsFault(Exception):  # noqa: N818  (the user's mistake, shown as a sentence)
    """The certificate or the key cannot be used; the message names the file."""


def server_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What serves TLS with these files; None without them. Raises TlsFault."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise TlsFault("tls_cert and tls_key go together: one of them is missing")
    for path in (cert, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsFault(f"cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password="")  # a key with a passphrase fails here instead of asking for it
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else "no unencrypted PEM"
        raise TlsFault(f"cannot use the certificate {cert} with the key {key}: {reason}") from None
    return context
