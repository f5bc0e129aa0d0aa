"""What a certificate says of itself, read without believing a word.

The X.509 library of `cryptography` gives values; here the bytes are needed, as a token
names its signer by them.
"""

from functools import lru_cache
from typing import NamedTuple

from auditlog.anchors.rfc3161 import der
from auditlog.core.errors import MalformedError

__all__ = ["Names", "names_of"]


class Names(NamedTuple):
    """Parts of a certificate, in DER."""

    serial: bytes
    issuer: bytes
    subject: bytes
    key: tuple[str, ...]
    """OIDs of the key's algorithm and, where it has one, its curve."""


@lru_cache(64)  # those of one authority come with each of its tokens
def names_of(certificate: bytes) -> Names:
    """Return whom a certificate names, of which nothing is verified.

    Raises:
        MalformedError: it is no certificate of X.509 version 3 in DER.
    """
    whole = der.whole(certificate, der.SEQUENCE, "a certificate")
    parts = der.items(whole.content)
    signed = parts[0] if parts else whole
    fields = der.items(signed.content) if signed.tag == der.SEQUENCE else []
    if len(fields) < 7 or fields[0].tag != der.tagged(0):
        raise MalformedError("expected a certificate of X.509 version 3")
    _, serial, _, issuer, _, subject, key = fields[:7]
    return Names(serial.raw, issuer.raw, subject.raw, _key(key))


def _key(item: der.Item) -> tuple[str, ...]:
    """Return the OIDs in SEQUENCE { SEQUENCE { algorithm, curve }, the key itself }."""
    parts = der.items(item.content) if item.tag == der.SEQUENCE else []
    fields = der.items(parts[0].content) if parts else []
    return tuple(der.oid(one, "a key") for one in fields if one.tag == der.OID)
