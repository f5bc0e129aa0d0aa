"""Identifiers of people that are known by their form: the built-in patterns.

Each finder takes time in the length of the text, whatever it is, and returns where
such identifiers stand, in order. Where there is a check digit, it has to be right.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv6Address
from itertools import accumulate

__all__ = ["FINDERS", "HINTS", "Span"]

Span = tuple[int, int]

# --- payment cards (ISO/IEC 7812) -----------------------------------------------------

# Groups of digits with one mark between them. What follows a decimal point is a
# fraction: one in ten long ones would have a right check digit.
_DIGITS = re.compile(
    r"(?<!\d)(?<!\d[.,])\d++(?:[ \u00a0\u2009\u202f-]\d++)*+(?!\.\d*[1-9])"
)
_GROUP = re.compile(r"\d+")
_CARD = range(13, 20)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _cards(text: str) -> list[Span]:
    found = []
    for run in _DIGITS.finditer(text):
        if run.end() - run.start() >= _CARD.start:
            found += _cards_within(text, *run.span())
    return found


def _cards_within(text: str, start: int, end: int) -> Iterator[Span]:
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    after = start
    for first, (begin, _) in enumerate(groups):
        if begin >= after and (stop := _card_end(text, groups[first:][: _CARD.stop])):
            yield begin, stop
            after = stop


def _card_end(text: str, groups: list[Span]) -> int | None:
    """Return where a card ends that begins with the first of these groups."""
    begin = groups[0][0]
    sizes = accumulate(end - start for start, end in groups)
    for (_, stop), size in zip(groups, sizes, strict=True):
        if size >= _CARD.stop:
            break
        if size >= _CARD.start and _is_card(text[begin:stop]):
            return stop
    return None


def _is_card(text: str) -> bool:
    """Return whether the first digit is one of cards and the last is right (Luhn)."""
    digits = [int(mark) for mark in text if mark.isdecimal()]
    if digits[0] < 2:  # no issuer of cards, but times in milliseconds begin so
        return False
    doubled = map(_DOUBLED.__getitem__, digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


# --- addresses of mail ----------------------------------------------------------------

_LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
# Begins at the first character of a run only: else a long run costs its square.
_EMAIL = re.compile(rf"(?<![{_LOCAL}])[{_LOCAL}]++@[\w-]++(?:\.[\w-]++)++")


def _emails(text: str) -> list[Span]:
    return [found.span() for found in _EMAIL.finditer(text)] if "@" in text else []


# --- bank accounts (ISO 13616, registry of lengths) -----------------------------------

_IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}(?:[ -]?[A-Z\d]){11,30}", re.I | re.A)
_IBAN_SIZES = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 "
        "CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 "
        "GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
        "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
        "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 "
        "SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
_NOT_IBAN = dict.fromkeys(map(ord, " -"))


def _ibans(text: str) -> list[Span]:
    found = []
    for run in _IBAN.finditer(text):
        size = _IBAN_SIZES.get(run[0][:2].upper(), 0)
        marks = [at for at, mark in enumerate(run[0]) if mark not in " -"]
        if 0 < size <= len(marks):
            end = marks[size - 1] + 1
            if _is_iban(run[0][:end]):
                found.append((run.start(), run.start() + end))
    return found


def _is_iban(text: str) -> bool:
    """Return whether the check digits are right (ISO 7064, MOD 97-10)."""
    compact = text.translate(_NOT_IBAN)
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(mark, 36)) for mark in moved)) % 97 == 1


# --- addresses of machines ------------------------------------------------------------

_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\d.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\d|\.\d)", re.A)
_IPV6 = re.compile(
    r"(?<![\w:])[\dA-F]{0,4}:(?:[\dA-F]{0,4}:){1,6}"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|:|[\dA-F]{1,4}|)(?!\w)",
    re.I | re.A,
)


def _ips(text: str) -> list[Span]:
    v4 = [found.span() for found in _IPV4.finditer(text)] if "." in text else []
    v6 = filter(None, map(_ipv6, _IPV6.finditer(text))) if ":" in text else ()
    return sorted([*v4, *v6])


def _ipv6(found: re.Match[str]) -> Span | None:
    """Return where the address is; a colon after it is punctuation."""
    for end in (found.end(), found.end() - 1):
        literal = found.string[found.start() : end]
        try:
            IPv6Address(literal)
        except AddressValueError:
            continue
        # "::" alone stands in many a programming language.
        return (found.start(), end) if literal != "::" else None
    return None


# --- telephone numbers (E.123, E.164) -------------------------------------------------

_PHONE = re.compile(
    r"(?<![\w+.,-])(?:"
    # +44 20 7946 0958, 0049 (0)30 123456
    r"(?:\+|00)[1-9](?:[ \u00a0().\-/]{0,3}\d){6,13}"
    # (555) 123-4567
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    # 01 23 45 67 89
    r"|0\d(?:[ .-]\d\d){4}"
    # 0170/1234567, (030) 12 34 56 78, 02079460958
    r"|\(?0\d{1,4}\)?(?:[ \u00a0/-]{0,3}\d){5,10}"
    r")(?!\w)",
    re.A,
)
_DATE = re.compile(r"\d\d[/-]\d\d[/-]\d{2,4}|\d\d[/-]\d{4}")
_FEWEST = 8


def _phones(text: str) -> list[Span]:
    return [found.span() for found in _PHONE.finditer(text) if _is_phone(found[0])]


def _is_phone(text: str) -> bool:
    digits = sum(map(str.isdecimal, text))
    return digits >= _FEWEST and not _DATE.match(text)


FINDERS: dict[str, Callable[[str], list[Span]]] = {
    "card": _cards,
    "email": _emails,
    "iban": _ibans,
    "ip": _ips,
    "phone": _phones,
}
"""Finders by name."""

HINTS: dict[str, Callable[[str], object]] = {
    "card": re.compile(r"\d(?:[^\d.]?\d){12}").search,
    "email": re.compile("@").search,
    "iban": re.compile(r"[A-Z]{2}\d{2}[ -]?[A-Z\d]", re.I | re.A).search,
    "ip": re.compile(r"\d\.\d{1,3}\.\d|:[\dA-F:]{0,4}:", re.I | re.A).search,
    "phone": re.compile(r"(?:\d[^\w\"]{0,3}){7}\d", re.A).search,
}
"""What is false of a text in no part of which the finder of that name finds any."""
