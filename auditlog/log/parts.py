"""What is kept of the content of one decision, as values.

Content has a secret, from which all salts of the commitment follow. Where a redactor
took something out, or could not tell, it has none: a secret confirms what a value was
to whoever guesses it. Then each leaf is known by itself (`Salts`), and what a redactor
did not see whole and leave as it was is known by its hash alone, for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from auditlog.core.commitment import salts
from auditlog.core.errors import MalformedError
from auditlog.core.record import parse_json

__all__ = [
    "CAPPED",
    "CONTEXT",
    "REDACTION",
    "SIDES",
    "STORED",
    "Content",
    "Hashed",
    "KeptBody",
    "Leaf",
    "Part",
    "Piece",
    "Salted",
    "Salts",
]

SIDES = ("request", "response")
REDACTION = "redaction"
"""Name of the leaf that says what became of each side and leaf that was not kept as it
was: ``redacted`` or ``withheld``."""
CAPPED = "capped"
"""Member of that leaf: the sides of whose first bytes alone there is a copy."""
CONTEXT = "context/"
STORED = "stored."
"""Before the name of a side or leaf in that of its stored copy."""


class Part(NamedTuple):
    """One stored value of a decision."""

    path: str
    value: bytes
    """The value, or its first bytes where `leaf_hash` is given."""
    size: int
    """Length of the whole value in bytes."""
    leaf_hash: bytes | None = None
    """Hash of the leaf of the whole value; None where the whole value is kept."""
    piece_hashes: bytes = b""
    """Hashes of the pieces that are not kept whole, 32 bytes each."""
    coding: str | None = None
    """In a decoded part, the Content-Encoding that was undone."""


class Hashed(NamedTuple):
    """A leaf that can never be opened: not even its path is kept."""

    hash: bytes
    """32 bytes."""


class Salted(NamedTuple):
    """A leaf whose value is the next of the parts."""

    salt: bytes
    """16 bytes."""


class Piece(NamedTuple):
    """A member, block, message or chunk: a piece of what is stored of its side."""

    salt: bytes
    """16 bytes."""
    side: str
    number: int
    """Among all pieces of the stored copy, or else of the body; from 0."""


class Salts(NamedTuple):
    """What is kept of a commitment instead of its secret."""

    first: bytes
    """salt_0, 16 bytes."""
    leaves: tuple[Hashed | Salted | Piece, ...]
    """All leaves, in order; the first two are the raw bodies, and no pieces."""


class KeptBody(NamedTuple):
    """What there is to be shown of one side."""

    value: bytes
    """The body, decoded if it was encoded; or what is stored instead of it."""
    capped: bool
    """Whether it is the first bytes only."""
    redaction: str | None
    """``redacted`` or ``withheld``; None where nothing was taken out."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was captured of one decision, as unsealed from the vault."""

    secret: bytes | None = field(repr=False)
    """32 bytes; None where something was redacted."""
    parts: tuple[Part, ...] = field(repr=False)
    """Request, response, the decoded ones, then ``context/*``; where there is no
    secret, only those that may be opened, besides the first two."""
    salts: Salts | None = field(default=None, repr=False)
    """In place of a secret."""

    @property
    def first_salt(self) -> bytes:
        """salt_0 of the commitment, 16 bytes."""
        if self.salts is not None:
            return self.salts.first
        return salts(self.secret or b"", 0)[0]

    @property
    def request(self) -> bytes:
        """The request body, or its first bytes; empty where a copy is stored."""
        return self.parts[0].value

    @property
    def response(self) -> bytes:
        """The response body, or its first bytes; empty where a copy is stored."""
        return self.parts[1].value

    @property
    def context(self) -> Mapping[str, bytes]:
        """The ``context/`` leaves by name; copies under ``stored.`` and their name."""
        return {
            part.path.removeprefix(CONTEXT): part.value
            for part in self.parts
            if part.path.startswith(CONTEXT)
        }

    @property
    def decoded(self) -> Mapping[str, Part]:
        """The decoded bodies by side, ``request`` and ``response``."""
        return {
            part.path.removesuffix(":decoded"): part
            for part in self.parts
            if part.coding is not None
        }

    @property
    def kept(self) -> tuple[Part, ...]:
        """The parts of which there is at least one byte, or all of none."""
        return tuple(one for one in self.parts if one.leaf_hash is None or one.value)

    @property
    def redaction(self) -> Mapping[str, str]:
        """What became of sides and leaves that are not kept as they were, by name.

        Raises:
            MalformedError: what is committed to does not say so.
        """
        return {k: v for k, v in self._redaction().items() if isinstance(v, str)}

    def _redaction(self) -> Mapping[str, Any]:
        if self.salts is None:
            return {}
        said = self.context.get(REDACTION, b"{}")
        known = parse_json(said, limit=len(said))
        if not isinstance(known, dict):
            raise MalformedError("expected an object as context/redaction, got another")
        return known

    def became(self, path: str) -> tuple[str, str | None]:
        """Return in which side or leaf a path is, and what `redaction` says of it."""
        name = next((one for one in SIDES if path.startswith(one)), path)
        name = name.removeprefix(CONTEXT)
        return name, self.redaction.get(name)

    def is_capped(self, side: str) -> bool:
        """Return whether of a side no more than its first bytes is stored."""
        if side in self._redaction().get(CAPPED, ()):
            return True
        raw = self.parts[SIDES.index(side)]
        return raw.leaf_hash is not None and side not in self.redaction

    def leaf(self, name: str) -> bytes | None:
        """Return a ``context/`` leaf, or its redacted copy; None if it has neither."""
        context = self.context
        return context.get(name, context.get(f"{STORED}{name}"))

    def body(self, side: str) -> KeptBody:
        """Return what there is to be shown of ``request`` or ``response``."""
        raw = self.parts[SIDES.index(side)]
        copy = self.context.get(f"{STORED}{side}")
        value = self.decoded.get(side, raw).value if copy is None else copy
        return KeptBody(value, self.is_capped(side), self.redaction.get(side))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a commitment, recomputed from stored content."""

    path: str
    """Empty where nothing but the hash is kept."""
    value: bytes | None
    """None where the whole value was not kept."""
    salt: bytes = field(repr=False)
    """Empty where it was not kept: then the leaf can never be opened."""
    hash: bytes
