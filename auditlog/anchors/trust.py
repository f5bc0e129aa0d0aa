"""Whom a verifier believes about time: the trust file, which is the verifier's own.

TOML; unknown tables and keys refuse the whole file, as in a policy::

    [[authority]]                        # an RFC 3161 time-stamp authority
    party = "TSA of Example"             # its name in verdicts; it counts once
    policy = "1.2.3.4.1"                 # the policy OID that its tokens must name
    until = 2031-01-01T00:00:00Z         # optional: from then on, believed only if
                                         # renewed before; also in the next two
    root = '''-----BEGIN CERTIFICATE-----
    …'''
    intermediates = ['''…''']            # optional
    revoked = ['''-----BEGIN X509 CRL-----
    …''']                                # optional: revocation lists

    [[chain]]                            # an EVM chain and a contract on it
    party = "Ethereum"
    chain_id = 1
    contract = "0x…"                     # 20 bytes
    senders = ["0x…"]                    # the operator's addresses
    blocks = ["0x…"]                     # hashes of final blocks that you believe

    [[bitcoin]]                          # block headers that you believe
    party = "Bitcoin"
    headers = { 358391 = "0200…" }       # by height, 80 bytes in hex

    [[revoked]]                          # a log key that is no longer good
    key = "bank.example/credit+1a2b3c4d" # name and id, as at the start of its vkey
    size = 4711                          # of its last good checkpoint
    root = "…"                           # of the same, in base64
    before = 2026-11-01T00:00:00Z        # optional: when it was lost; what anchors and
                                         # witnesses saw earlier is good

Several tables of one `party` count as one party. What could be read in two ways refuses
the file too: one authority, contract, block or revoked key in two tables. So does what
would count one liar twice: one root, chain or block under two parties, Bitcoin under
two names, or two names that differ in case only.
"""

import base64
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unicodedata import is_normalized

from auditlog.core.encoding import MAX_TEXT, check_range, parse_hash
from auditlog.core.errors import MalformedError
from auditlog.core.record import MAX_INTEGER, check_fields

__all__ = [
    "MAX_TRUST",
    "Authority",
    "Bitcoin",
    "Chain",
    "Revocation",
    "Trust",
    "parse_trust",
]

MAX_TRUST = 16 * MAX_TEXT
"""Characters in the longest trust file: block headers may be many."""

_T = TypeVar("_T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NAME = 100
_HEADER_BYTES = 80
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,30})){1,30}")
_KEY = re.compile(r"[^+\s]+\+[0-9a-f]{8}")
_PEM = re.compile(
    "-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Authority:
    """An RFC 3161 time-stamp authority."""

    party: str
    policy: str
    """OID in dots."""
    root: str
    """PEM certificate at which the chain must end."""
    intermediates: tuple[str, ...] = ()
    """PEM certificates between root and signer, beside those in the evidence."""
    revoked: tuple[str, ...] = ()
    """PEM certificate revocation lists, beside those in the evidence."""
    until: int | None = None
    """Microseconds since the epoch: by itself not believed any more from then on."""


@dataclass(frozen=True, slots=True)
class Chain:
    """An EVM chain, and the contract on it that is believed."""

    party: str
    chain_id: int
    contract: bytes
    """20 bytes."""
    senders: tuple[bytes, ...]
    """Addresses of the operator, 20 bytes each."""
    blocks: tuple[bytes, ...]
    """Hashes of final blocks, 32 bytes each; their ancestors are believed through
    the headers in the evidence."""
    until: int | None = None
    """As of an `Authority`."""


@dataclass(frozen=True, slots=True)
class Bitcoin:
    """Block headers of a Bitcoin chain."""

    party: str
    headers: tuple[tuple[int, bytes], ...]
    """Height and 80 bytes, ascending."""
    until: int | None = None
    """As of an `Authority`."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A log key that is no longer good, and up to where it was."""

    key: str
    """Name and key id, as at the start of a vkey."""
    size: int
    """Of the last good checkpoint."""
    root: bytes
    """Of the same, 32 bytes."""
    before: int | None = None
    """Microseconds since the epoch: what anchors saw earlier is still good."""

    @property
    def origin(self) -> str:
        """The log whose key it is."""
        return self.key.rpartition("+")[0]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a verifier believes about time; made by `parse_trust`, which checks it."""

    authorities: tuple[Authority, ...] = ()
    chains: tuple[Chain, ...] = ()
    bitcoin: tuple[Bitcoin, ...] = ()
    revocations: tuple[Revocation, ...] = ()

    def by_until(self) -> list[tuple[int | None, "Trust"]]:
        """Take the tables apart by their `until`; revocations are in none.

        Returns:
            Those without an `until` first, then those that are believed longest.
        """
        moments = {one.until for one in self.authorities}
        moments |= {one.until for one in self.chains}
        moments |= {one.until for one in self.bitcoin}
        ordered = sorted(moments, key=lambda one: (one is not None, -(one or 0)))
        return [(until, self._of(until)) for until in ordered]

    def _of(self, until: int | None) -> "Trust":
        return Trust(
            tuple(one for one in self.authorities if one.until == until),
            tuple(one for one in self.chains if one.until == until),
            tuple(one for one in self.bitcoin if one.until == until),
        )


def parse_trust(text: str) -> Trust:
    """Return what stands in a trust file, failing closed.

    Raises:
        MalformedError: it is no TOML, or some table or key is not understood.
    """
    if type(text) is not str or len(text) > MAX_TRUST:
        raise MalformedError(f"expected a trust file of up to {MAX_TRUST} characters")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"expected TOML as trust file: {error}") from None
    kinds = ("authority", "bitcoin", "chain", "revoked")
    found = check_fields(tables, "a trust file", {}, dict.fromkeys(kinds, list))
    trust = Trust(
        _each(found, "authority", _authority),
        _each(found, "chain", _chain),
        _each(found, "bitcoin", _bitcoin),
        _each(found, "revoked", _revocation),
    )
    _refuse_repeats(trust)
    _refuse_doubles(trust)
    return trust


def _refuse_repeats(trust: Trust) -> None:
    """Refuse two tables that speak of one thing: they could contradict each other."""
    _once("authority", [(one.policy, _root_id(one)) for one in trust.authorities])
    _once("contract", [(one.chain_id, one.contract) for one in trust.chains])
    heights = [(t.party, height) for t in trust.bitcoin for height, _ in t.headers]
    _once("block of a party", heights)
    _once("revoked key", [one.key for one in trust.revocations])
    trees = {(one.origin, one.size, one.root) for one in trust.revocations}
    _once("size of a log, as last good,", [tree[:2] for tree in trees])


def _once(what: str, things: list[Any]) -> None:
    known = {repr(one) for one in things}
    if len(known) != len(things):
        raise MalformedError(f"trust file: expected each {what} once, got one twice")


def _refuse_doubles(trust: Trust) -> None:
    """Refuse two parties behind which the same ones stand: one liar would count twice.

    Whoever is under a root can name the policy of anybody else under it; all contracts
    on a chain have its time; and OpenTimestamps attests by Bitcoin only.
    """
    known: dict[tuple[str, object], str] = {}
    for what, thing, party in _foundations(trust):
        other = known.setdefault((what, thing), party)
        if other != party:
            raise MalformedError(
                f"trust file: expected one party for each {what}, got {other!r} and "
                f"{party!r}: they would count twice"
            )


def _foundations(trust: Trust) -> Iterator[tuple[str, object, str]]:
    """Yield what the word of each party rests on."""
    for authority in trust.authorities:
        yield "root", _root_id(authority), authority.party
    for chain in trust.chains:
        yield "chain", chain.chain_id, chain.party
        for block in chain.blocks:
            yield "block", block, chain.party
    for table in trust.bitcoin:
        yield "Bitcoin chain", None, table.party
    tables = (trust.authorities, trust.chains, trust.bitcoin)
    for party in (one.party for some in tables for one in some):
        yield "name", party.casefold(), party


def _root_id(authority: Authority) -> object:
    """Return a certificate in DER, however its PEM is written and what stands around.

    Nothing is loaded for it, as most checks need no X.509; a text that is no PEM, which
    is refused when it is needed, stands for itself.
    """
    try:
        (inside,) = _PEM.findall(authority.root)
        return base64.b64decode(inside)
    except ValueError:
        return " ".join(authority.root.split())


def _each(
    tables: Mapping[str, Any], name: str, read: Callable[[Any], _T]
) -> tuple[_T, ...]:
    found = []
    for number, table in enumerate(tables.get(name, []), 1):
        try:
            found.append(read(table))
        except MalformedError as error:
            raise MalformedError(f"trust file, {name} {number}: {error}") from None
    return tuple(found)


def _authority(table: Any) -> Authority:
    required = {"party": str, "policy": str, "root": str}
    optional = {"intermediates": list, "revoked": list, "until": datetime}
    fields = check_fields(table, "an authority", required, optional)
    if not _OID.fullmatch(fields["policy"]):
        raise MalformedError(f"expected an OID, got {fields['policy'][:40]!r}")
    return Authority(
        _party(fields),
        fields["policy"],
        fields["root"],
        tuple(_string(one) for one in fields.get("intermediates", ())),
        tuple(_string(one) for one in fields.get("revoked", ())),
        _moment(fields.get("until")),
    )


def _chain(table: Any) -> Chain:
    kinds = (str, int, str, list, list)
    names = ("party", "chain_id", "contract", "senders", "blocks")
    required: dict[str, type] = dict(zip(names, kinds, strict=True))
    fields = check_fields(table, "a chain", required, {"until": datetime})
    if not fields["senders"]:
        raise MalformedError("expected at least one sender, got none")
    return Chain(
        _party(fields),
        check_range("a chain id", fields["chain_id"], MAX_INTEGER, 1),
        _hex(fields["contract"], 20),
        tuple(_hex(one, 20) for one in fields["senders"]),
        tuple(_hex(one, 32) for one in fields["blocks"]),
        _moment(fields.get("until")),
    )


def _bitcoin(table: Any) -> Bitcoin:
    required = {"party": str, "headers": dict}
    fields = check_fields(table, "a bitcoin table", required, {"until": datetime})
    headers = [
        (_height(height), _hex(header, _HEADER_BYTES, prefix=""))
        for height, header in fields["headers"].items()
    ]
    return Bitcoin(_party(fields), tuple(sorted(headers)), _moment(fields.get("until")))


def _revocation(table: Any) -> Revocation:
    required = {"key": str, "size": int, "root": str}
    fields = check_fields(table, "a revocation", required, {"before": datetime})
    if not _KEY.fullmatch(fields["key"]):
        raise MalformedError(f"expected a key as name+id, got {fields['key'][:100]!r}")
    size = check_range("a size", fields["size"], MAX_INTEGER)
    before = _moment(fields.get("before"))
    return Revocation(fields["key"], size, parse_hash(fields["root"]), before)


def _moment(value: datetime | None) -> int | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise MalformedError("expected a time with its offset, such as ...T00:00:00Z")
    microseconds = (value - _EPOCH) // timedelta(microseconds=1)
    return check_range("a time, since 1970,", microseconds, MAX_INTEGER)


def _party(fields: Mapping[str, Any]) -> str:
    party: str = fields["party"]
    # Two spellings of one name would be two parties.
    one_spelling = is_normalized("NFC", party) and party == " ".join(party.split())
    if not (0 < len(party) <= _MAX_NAME and party.isprintable() and one_spelling):
        raise MalformedError(
            f"expected a printable name of up to {_MAX_NAME} letters as party, in NFC, "
            "with single spaces inside only"
        )
    return party


def _string(value: Any) -> str:
    if type(value) is not str:
        raise MalformedError(f"expected a text, got {type(value).__name__}")
    return value


def _hex(value: Any, size: int, prefix: str = "0x") -> bytes:
    text = _string(value)
    digits = text.removeprefix(prefix).lower()
    fits = text.startswith(prefix) and len(digits) == 2 * size
    if not fits or not re.fullmatch("[0-9a-f]*", digits):
        raise MalformedError(f"expected {size} bytes in hex as {prefix}…")
    return bytes.fromhex(digits)


def _height(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,8}", text):
        raise MalformedError(f"expected a block height, got {text[:40]!r}")
    return int(text)
