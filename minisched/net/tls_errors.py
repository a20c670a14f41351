"""The sentences for OpenSSL's reasons: why a TLS handshake failed, or what broke a connection.

Each says what happened, and at which side. A reason without a sentence is shown as OpenSSL has it.

Decision: where each new context has `ssl.OP_IGNORE_UNEXPECTED_EOF`, as in Python 3.11.2, the option has no effect.
Because: it says nothing about the program there, and a truncated stream would look like a whole one. Rejected: to leave
it on, which makes such a stream safe on one Python and not on another.

Not here: the errors themselves (`errors`), and when they are raised (`tls`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

UNEXPECTED_END = "UNEXPECTED_EOF_WHILE_READING"  # the peer's bytes have ended without a close_notify
NOT_TLS = "the peer does not speak TLS here"
NO_COMMON_VERSION = "there is no version of TLS that both sides accept"
NO_CERTIFICATE = "the peer has sent no certificate, and this side requires one"

# The reason of an error that this side has found, or of an alert that the peer has sent.
SENTENCES = {
    "HTTP_REQUEST": "the peer has sent an HTTP request without TLS",
    "HTTPS_PROXY_REQUEST": "the peer has sent a request to a proxy, without TLS",
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "UNKNOWN_PROTOCOL": NOT_TLS,
    "RECORD_LAYER_FAILURE": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "UNSUPPORTED_PROTOCOL": NO_COMMON_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": NO_COMMON_VERSION,
    "NO_PROTOCOLS_AVAILABLE": "the context of this side allows no version of TLS",
    "NO_SHARED_CIPHER": "both sides have no cipher in common, or the context of this server has no certificate",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the context of this server has no certificate that the peer can use",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refuses: it finds no common cipher, or no certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CERTIFICATE,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer requires a certificate of this side",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses the certificate of this side",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that the certificate of this side has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refuses the certificate of this side",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the authority that signed the certificate of this side",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the peer speaks none of the protocols that this side offers (ALPN)",
    "TLSV1_UNRECOGNIZED_NAME": "the peer has no such name (SNI)",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record was changed by a third party, or is not one of this connection",
}


def reason_of(error: ssl.SSLError) -> str | None:
    """Return OpenSSL's name of the reason, also of one that this version of Python has no name for."""
    if error.reason or not error.strerror or not error.strerror.startswith("[SSL] "):
        return error.reason
    return error.strerror.removeprefix("[SSL] ").partition(" (")[0].upper().replace(" ", "_")


def explained(error: ssl.SSLError, reason: str | None, ended: bool, established: bool) -> str:
    """Return a sentence about an error of `ssl`: at the end of the stream, after the handshake, or both."""
    if ended and established:
        return "the stream has ended without a close_notify: bytes may be missing"
    if ended:
        return "the peer has closed the connection during the handshake"
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"the certificate of the peer is refused: {refused.rstrip('.')}"
    if reason is None:
        return str(error)
    return SENTENCES.get(reason, reason.replace("_", " ").lower())


def wrap_without_option(context: ssl.SSLContext, *arguments: Any) -> ssl.SSLObject:
    """Return `context.wrap_bio(*arguments)`, without the option that hides truncation where each new context has it."""
    option = option_of_each_context()
    options = context.options
    if not options & option:
        return context.wrap_bio(*arguments)
    context.options = options & ~option  # the object copies those that the context has now
    try:
        return context.wrap_bio(*arguments)
    finally:
        context.options = options


def option_of_each_context() -> int:
    """Return the option that hides truncation, if each new context has it, and otherwise 0."""
    import ssl  # imported here: slow to import

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
