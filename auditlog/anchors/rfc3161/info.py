"""What a time-stamp authority signs: TSTInfo (RFC 3161 §2.4.2), parsed strictly."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from auditlog.anchors.rfc3161 import der
from auditlog.core.errors import MalformedError

__all__ = ["Info", "parse_info"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# X.690 §11.7: UTC, no fraction that is zero or ends in one. Finer than a microsecond
# is refused: cutting it would make an earlier time.
_TIME = re.compile(r"(\d{14})(?:\.(\d{0,5}[1-9]))?Z", re.ASCII)
_MAX_ACCURACY_SECONDS = 86_400
_MILLIS, _MICROS, _EXTENSIONS = 0x80, 0x81, 0xA1
_TSA_NAME = 0xA0
_TRUE = b"\xff"


class Info(NamedTuple):
    """The statement of an authority."""

    policy: str
    """OID in dots."""
    hash_algorithm: str
    """OID in dots, of the hash that made `imprint`."""
    imprint: bytes
    serial: int
    time: int
    """Microseconds since the epoch."""
    tolerance: int
    """Microseconds by which the clock of the authority may have been behind: the
    accuracy that it states. Where it states none: a second, because its time may be
    cut to whole ones."""
    nonce: int | None

    @property
    def not_after(self) -> int:
        """The latest that the token can have been made, by the authority's word."""
        return self.time + self.tolerance

    @property
    def moment(self) -> datetime:
        """The stated time, as X.509 wants it."""
        return _EPOCH + self.time * _MICROSECOND


def parse_info(data: bytes) -> Info:
    """Return what a TSTInfo says.

    Raises:
        MalformedError: it is not TSTInfo of version 1 in DER, or holds an extension
            that must be understood.
    """
    fields = der.items(der.whole(data, der.SEQUENCE, "TSTInfo").content)
    if len(fields) < 5 or der.integer(fields[0], "version of TSTInfo") != 1:
        raise MalformedError("expected TSTInfo of version 1")
    policy = der.oid(fields[1], "policy")
    algorithm, imprint = _imprint(fields[2])
    serial = der.integer(fields[3], "serial number of a token")
    time = _time(fields[4])
    rest = fields[5:]
    tolerance = 1_000_000
    if rest and rest[0].tag == der.SEQUENCE:
        tolerance = _accuracy(rest.pop(0)) or tolerance
    if rest and rest[0].tag == der.BOOLEAN and rest[0].content == _TRUE:
        rest.pop(0)
    nonce = None
    if rest and rest[0].tag == der.INTEGER:
        nonce = der.integer(rest.pop(0), "nonce")
    if rest and rest[0].tag == _TSA_NAME:
        rest.pop(0)
    if rest and rest[0].tag == _EXTENSIONS:
        _check_extensions(rest.pop(0))
    if rest:
        raise MalformedError("expected TSTInfo, got an unknown member in it")
    return Info(policy, algorithm, imprint, serial, time, tolerance, nonce)


def _imprint(item: der.Item) -> tuple[str, bytes]:
    fields = der.items(item.content) if item.tag == der.SEQUENCE else []
    if [one.tag for one in fields] != [der.SEQUENCE, der.OCTET_STRING]:
        raise MalformedError("expected a message imprint in TSTInfo")
    return der.algorithm(fields[0], "hash algorithm"), fields[1].content


def _time(item: der.Item) -> int:
    text = item.content.decode("ascii", "replace")
    parts = _TIME.fullmatch(text) if item.tag == der.GENERALIZED_TIME else None
    whole, fraction = parts.groups("") if parts else ("", "")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise MalformedError(
            "expected a GeneralizedTime in UTC, to a microsecond at the finest"
        ) from None
    if moment < _EPOCH or moment.year > 9990:
        raise MalformedError("expected a time from 1970 to 9990")
    return (moment - _EPOCH) // _MICROSECOND + int(fraction.ljust(6, "0"))


def _accuracy(item: der.Item) -> int:
    limits = {
        der.INTEGER: (_MAX_ACCURACY_SECONDS, 1_000_000),
        _MILLIS: (999, 1000),
        _MICROS: (999, 1),
    }
    total, left = 0, list(limits)
    for one in der.items(item.content):
        if one.tag not in left:
            raise MalformedError("expected seconds, millis and micros as accuracy")
        left = left[left.index(one.tag) + 1 :]
        # Millis and micros are INTEGERs under another tag.
        value = der.integer(one._replace(tag=der.INTEGER), "accuracy")
        most, unit = limits[one.tag]
        if value > most:
            raise MalformedError("expected an accuracy of up to a day")
        total += value * unit
    return total


def _check_extensions(item: der.Item) -> None:
    for extension in der.items(item.content):
        fields = der.items(extension.content) if extension.tag == der.SEQUENCE else []
        if [one.tag for one in fields] != [der.OID, der.OCTET_STRING]:
            # The third one would be `critical`, and no extension is known here.
            raise MalformedError("expected no critical extension in TSTInfo")
