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
_DIGITS = re.compile(r"(?<!\d)(?<!\d\.)\d(?:[ \u00a0\u2009\u202f-]?\d){12,}+")
_GROUP = re.compile(r"\d+")
_CARD = range(13, 20)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _cards(text: str) -> list[Span]:
    found: list[Span] = []
    for run in _DIGITS.finditer(text):
        found += _cards_within(text, *run.span())
    return found


def _cards_within(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield all groups that may be a card together, as none must be left in part."""
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    if all(to - at >= _CARD.stop for at, to in groups):
        return
    ends = list(accumulate(to - at for at, to in groups))
    sums = _check_sums([int(mark) for mark in text[start:end] if mark.isdecimal()])
    before = 0
    for first, (begin, _) in enumerate(groups):
        # No issuer of cards has 0 or 1, but times in milliseconds begin with 1.
        if int(text[begin]) > 1:
            for place in range(first, len(groups)):
                if ends[place] - before >= _CARD.stop:
                    break
                if ends[place] - before in _CARD and _right(sums, before, ends[place]):
                    yield begin, groups[place][1]
        before = ends[first]


def _check_sums(digits: list[int]) -> tuple[list[int], list[int]]:
    """Return sums of the first digits, with every second one doubled, or the others."""
    doubled = [_DOUBLED[digit] for digit in digits]
    ways = ([*digits], [*doubled])
    ways[0][1::2], ways[1][1::2] = doubled[1::2], digits[1::2]
    return [0, *accumulate(ways[0])], [0, *accumulate(ways[1])]


def _right(sums: tuple[list[int], list[int]], start: int, end: int) -> bool:
    """Return whether the last one of these digits checks the others (Luhn)."""
    way = sums[(end - 1) % 2]  # in which the last one is not doubled
    return (way[end] - way[start]) % 10 == 0


# --- addresses of mail ----------------------------------------------------------------

# Of what RFC 5322 §3.2.3 allows, not the marks that stand before one in a URL.
_LOCAL = r"\w.!#$%'*+^~-"
# Begins at the first character of a run only: else a long run costs its square.
_EMAIL = re.compile(rf"(?<![{_LOCAL}])[{_LOCAL}]++@[\w-]++(?:\.[\w-]++)++")


def _emails(text: str) -> list[Span]:
    return [found.span() for found in _EMAIL.finditer(text)] if "@" in text else []


# --- bank accounts (ISO 13616, registry of lengths) -----------------------------------

_IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}", re.IGNORECASE | re.ASCII)
_REST = re.compile(r"(?:[ \u00a0-]?[A-Z\d]){11,30}", re.IGNORECASE | re.ASCII)
_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",  # codespell:ignore fo
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_SIZES = {
    country: size
    for size, countries in _COUNTRIES.items()
    for country in countries.split()
}


def _ibans(text: str) -> list[Span]:
    return [span for found in _IBAN.finditer(text) if (span := _iban_at(text, found))]


def _iban_at(text: str, begin: re.Match[str]) -> Span | None:
    size = _IBAN_SIZES.get(begin[0][:2].upper(), 0)
    rest = _REST.match(text, begin.end())
    if not size or rest is None:
        return None
    ends = [at + 1 for at in range(begin.start(), rest.end()) if text[at].isalnum()]
    if len(ends) < size or not _is_iban(text[begin.start() : ends[size - 1]]):
        return None
    return begin.start(), ends[size - 1]


def _is_iban(text: str) -> bool:
    """Return whether the check digits are right (ISO 7064, MOD 97-10)."""
    compact = "".join(filter(str.isalnum, text))
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(mark, 36)) for mark in moved)) % 97 == 1


# --- addresses of machines ------------------------------------------------------------

_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\d.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\d|\.\d)", re.ASCII)
_IPV6 = re.compile(
    r"(?<![\w:])[\dA-F]{0,4}:(?:[\dA-F]{0,4}:){1,6}"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|:|[\dA-F]{1,4}|)(?!\w)",
    re.IGNORECASE | re.ASCII,
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
    r"|(?:\(0\d{1,4}\)|0\d{1,4})(?:[ \u00a0/-]{0,3}\d){5,10}"
    r")(?!\w)",
    re.ASCII,
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

HINTS: dict[str, tuple[re.Pattern[str], ...]] = {
    "card": (re.compile(r"\d[^\d.]?\d[^\d.]?\d(?:[^\d.]?\d){10}"),),
    "email": (re.compile("@"),),
    "iban": (re.compile(r"[A-Za-z]{2}[0-9]{2}.?[A-Za-z0-9]"),),
    # Two, as a search for what begins with one mark is many times as fast.
    "ip": (re.compile(r"\.[0-9]{1,3}\.[0-9]"), re.compile(r":[0-9A-Fa-f]{0,4}:")),
    "phone": (re.compile(r"[0-9](?:[ \u00a0()./-]{0,4}[0-9]){7}"),),
}
"""One of which matches in every text in which the finder of that name finds any."""
