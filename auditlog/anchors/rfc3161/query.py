"""Requests to a time-stamp authority, and what it says where it does not stamp.

RFC 3161 §2.4. The answer is granted or it is none: "granted with modifications" means
that something is not as it was asked for, and all that we ask for is needed.
"""

from auditlog.anchors.rfc3161 import der
from auditlog.anchors.rfc3161.algorithms import SHA_256
from auditlog.anchors.rfc3161.token import MAX_TOKEN, Token, parse_token
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    VerificationError,
)

__all__ = ["format_query", "parse_reply"]

_GRANTED, _WITH_MODS, _WAITING = 0, 1, 3
_FAILURES = {
    0: "it does not know the hash algorithm",
    2: "it does not support such requests",
    5: "it cannot read the request",
    14: "its source of time is not available",
    15: "it does not issue under this policy",
    16: "it does not know an extension",
    17: "it does not have what is asked for",
    25: "it failed",
}
_TEMPORARY = {14, 25}
_UNACCEPTED_POLICY = 15


def format_query(imprint: bytes, nonce: int, policy: str) -> bytes:
    """Return a TimeStampReq for a SHA-256 that asks for the certificates, too.

    Args:
        imprint: 32 bytes.
        nonce: random, and never negative.
        policy: OID.
    """
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(SHA_256), der.encode(der.NULL))
    return der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, imprint)),
        der.encode_oid(policy),
        der.encode_integer(nonce),
        der.encode(der.BOOLEAN, b"\xff"),
    )


def parse_reply(data: bytes) -> Token:
    """Return the parts of the token in a TimeStampResp.

    Raises:
        AuditLogError: the authority cannot stamp now; asking later may help.
        ConfigurationError: it does not issue under the policy.
        VerificationError: it refuses, or grants something else.
        MalformedError: this is no TimeStampResp.
    """
    if len(data) > MAX_TOKEN:
        raise MalformedError(f"expected a response of up to {MAX_TOKEN} bytes")
    whole = der.whole(data, der.SEQUENCE, "a time-stamp response")
    fields = der.items(whole.content)
    status: list[der.Item] = []
    if fields and fields[0].tag == der.SEQUENCE:
        status = der.items(fields[0].content)
    if not status or len(fields) > 2:
        raise MalformedError("expected a time-stamp response with a status")
    code = der.integer(status[0], "status")
    if code != _GRANTED:
        raise _refusal(code, status[1:])
    if len(fields) != 2:
        raise MalformedError("expected a token in a response that is granted")
    return parse_token(fields[1].raw)


def _refusal(code: int, rest: list[der.Item]) -> AuditLogError:
    """Say what a status means; its text is the authority's, and is not repeated."""
    if code == _WITH_MODS:
        return VerificationError("the authority granted something else than asked for")
    failures = _failures(rest)
    reasons = [_FAILURES.get(one, f"failure {one}") for one in failures]
    why = f"the authority refuses to stamp: {', '.join(reasons) or 'it says not why'}"
    if code == _WAITING or failures & _TEMPORARY:
        return AuditLogError(why)
    if _UNACCEPTED_POLICY in failures:
        return ConfigurationError(why)
    return VerificationError(why)


def _failures(rest: list[der.Item]) -> set[int]:
    bits = next((one.content[1:5] for one in rest if one.tag == der.BIT_STRING), b"")
    number = int.from_bytes(bits.ljust(4, b"\0"), "big")
    return {bit for bit in range(32) if number >> 31 - bit & 1}
