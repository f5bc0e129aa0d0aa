r"""Checkpoints, and the policy that says whose are believed.

A checkpoint (C2SP tlog-checkpoint) is the text of a signed note::

    origin "\n" size "\n" base64(root) "\n" *(extension "\n")

A policy (C2SP tlog-policy) names log keys, witnesses and a quorum::

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member>...
    quorum <name>|none

It fails closed: a line that is not understood, a threshold of zero, an empty group, a
name or a key used twice, a second quorum, or a key that is log and witness at once
refuse the whole policy.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from auditlog.core.encoding import (
    MAX_TEXT,
    decode_text,
    format_base64,
    format_decimal,
    parse_decimal,
    parse_hash,
)
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    Signature,
    Verifier,
    open_note,
    parse_vkey,
    split_unverified_note,
)

__all__ = [
    "Checkpoint",
    "Group",
    "LogKey",
    "Policy",
    "SignedCheckpoint",
    "Witness",
    "format_checkpoint",
    "open_checkpoint",
    "parse_checkpoint",
    "parse_policy",
]

_NONE = "none"
_BLANK = re.compile(r"[ \t]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Checkpoint(NamedTuple):
    """What a log states of itself: this many leaves, under this root.

    Extension lines may follow in the text; we write none, and read nothing into them.
    """

    origin: str
    """Name of the log, unique for ever."""
    size: int
    """Leaves in the tree."""
    root: bytes
    """32 bytes."""


class LogKey(NamedTuple):
    """A key that a policy believes to be a log's; its name is the origin."""

    verifier: Verifier
    url: str | None = None


class Witness(NamedTuple):
    """A witness that a policy believes."""

    name: str
    """Its name in the policy, which is not its key's name."""
    verifier: Verifier
    url: str | None = None
    """Prefix for submissions (C2SP tlog-witness)."""


class Group(NamedTuple):
    """Members of which `threshold` must agree: witnesses, or earlier groups."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a verifier believes; made by `parse_policy`, which checks it."""

    logs: tuple[LogKey, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    """Each after the groups that it names."""
    quorum: str
    """Name of a witness or group, or ``"none"``."""

    def satisfied_by(self, names: AbstractSet[str]) -> bool:
        """Say whether cosignatures by these witnesses of the policy are enough."""
        agreed = {witness.name for witness in self.witnesses if witness.name in names}
        for group in self.groups:
            if len(agreed.intersection(group.members)) >= group.threshold:
                agreed.add(group.name)
        return self.quorum == _NONE or self.quorum in agreed

    def log_keys(self, origin: str) -> tuple[Verifier, ...]:
        """Return the keys that may sign checkpoints of a log, in order."""
        return tuple(k.verifier for k in self.logs if k.verifier.name == origin)

    def keys_for(self, checkpoint: Checkpoint, note: bytes) -> tuple[Verifier, ...]:
        """Return the log keys that count under a note, which nobody verified yet.

        Here that is each of its log. A policy that knows of revoked keys
        (`auditlog.anchors.revocation`) says less, or raises.
        """
        return self.log_keys(checkpoint.origin)


class SignedCheckpoint(NamedTuple):
    """A checkpoint that satisfied a policy."""

    checkpoint: Checkpoint
    note: bytes
    """The signed note it stands in, unchanged."""
    log_signatures: tuple[Signature, ...]
    """At least one."""
    cosignatures: tuple[tuple[Witness, int], ...]
    """Witnesses that signed, with the time each states, in seconds since the epoch."""


def parse_checkpoint(note_text: bytes) -> Checkpoint:
    """Return the checkpoint in the text of a note (C2SP tlog-checkpoint).

    Nothing is verified here: see `open_checkpoint`.

    Raises:
        MalformedError: the text is no checkpoint, in its one spelling.
    """
    lines = decode_text(note_text).split("\n")[:-1]
    if len(lines) < 3:
        raise MalformedError(f"expected origin, size and root, got {len(lines)} lines")
    if "" in lines:
        raise MalformedError("expected a checkpoint without empty lines")
    return Checkpoint(lines[0], parse_decimal(lines[1]), parse_hash(lines[2]))


def format_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the text of the note for a checkpoint.

    Raises:
        MalformedError: there is no text that would give this checkpoint again.
    """
    origin, size, root = checkpoint
    try:
        text = f"{origin}\n{format_decimal(size)}\n{format_base64(root)}\n".encode()
    except UnicodeEncodeError:
        raise MalformedError("expected an origin in Unicode, got a surrogate") from None
    if parse_checkpoint(text) != checkpoint:
        raise MalformedError("expected an origin without newlines")
    return text


def open_checkpoint(note: bytes, policy: Policy) -> SignedCheckpoint:
    """Return the checkpoint in a note that satisfies a policy.

    Raises:
        MalformedError: the bytes are no note with a checkpoint.
        UntrustedError: no log key of the policy for that origin signed, or the quorum
            of witnesses is not met.
        VerificationError: a signature by a key of the policy does not verify, or a
            witness signed without a time.
    """
    text, _ = split_unverified_note(note)
    checkpoint = parse_checkpoint(text)
    keys = policy.keys_for(checkpoint, note)
    if not keys:
        raise UntrustedError(
            f"expected an origin of the policy, got {checkpoint.origin[:100]!r}"
        )
    witnesses = {witness.verifier: witness for witness in policy.witnesses}
    signatures = open_note(note, [*keys, *witnesses]).signatures
    by_log = tuple(s for s in signatures if s.verifier in keys)
    if not by_log:
        raise UntrustedError(
            "expected a signature by a log key of the policy, got none"
        )
    cosignatures = tuple(
        (witnesses[s.verifier], s.timestamp) for s in signatures if s not in by_log
    )
    if any(time == 0 for _, time in cosignatures):
        raise VerificationError("expected a time in each cosignature, got 0")
    names = {witness.name for witness, _ in cosignatures}
    if not policy.satisfied_by(names):
        got = ", ".join(sorted(names)) or "no witness"
        raise UntrustedError(f"expected the quorum {policy.quorum[:100]!r}, got {got}")
    return SignedCheckpoint(checkpoint, note, by_log, cosignatures)


def parse_policy(text: str) -> Policy:
    """Return the policy in a file (C2SP tlog-policy), failing closed.

    Raises:
        MalformedError: some line is not understood, or contradicts another.
    """
    if type(text) is not str or len(text) > MAX_TEXT or _FORBIDDEN.search(text):
        raise MalformedError("expected a policy of up to 1 MiB, without controls")
    draft = _Draft()
    for number, line in enumerate(text.split("\n"), 1):
        items = _BLANK.split(line.strip(" \t"))
        if items[0][:1] in ("", "#"):
            continue
        try:
            draft.add(items)
        except MalformedError as error:
            raise MalformedError(f"policy line {number}: {error}") from None
    if draft.quorum is None:
        raise MalformedError("expected a quorum line in the policy, got none")
    lines = tuple(draft.logs), tuple(draft.witnesses), tuple(draft.groups)
    return Policy(*lines, draft.quorum)


@dataclass(slots=True)
class _Draft:
    """A policy while its lines are read."""

    logs: list[LogKey] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quorum: str | None = None
    names: set[str] = field(default_factory=lambda: {_NONE})
    members: set[str] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)

    def add(self, items: list[str]) -> None:
        """Add one line, split into its items."""
        match items:
            case ["log", vkey, *url] if len(url) < 2:
                verifier = self._key(vkey, ED25519)
                self.logs.append(LogKey(verifier, *url))
            case ["witness", name, vkey, *url] if len(url) < 2:
                verifier = self._key(vkey, COSIGNATURE_ED25519)
                self._name(name)
                self.witnesses.append(Witness(name, verifier, *url))
            case ["group", name, threshold, *members]:
                self._members(members)
                self._name(name)
                needed = _threshold(threshold, len(members))
                self.groups.append(Group(name, needed, tuple(members)))
            case ["quorum", name]:
                self._quorum(name)
            case _:
                raise MalformedError("expected log, witness, group or quorum, complete")

    def _key(self, vkey: str, type_: int) -> Verifier:
        verifier = parse_vkey(vkey)
        if verifier.type not in (type_, ML_DSA_44):
            raise MalformedError(
                f"expected a key of type 0x{type_:02x} or 0x06 in this role, "
                f"got 0x{verifier.type:02x}"
            )
        if verifier.public_key in self.keys or verifier.key in self.ids:
            raise MalformedError(f"expected each key once, got {verifier.key} again")
        self.keys.add(verifier.public_key)
        self.ids.add(verifier.key)
        return verifier

    def _name(self, name: str) -> None:
        if name in self.names:
            raise MalformedError(f"expected an unused name, got {name[:100]!r}")
        self.names.add(name)

    def _members(self, members: list[str]) -> None:
        for member in members:
            if member == _NONE or member not in self.names:
                raise MalformedError(f"expected an earlier name, got {member[:100]!r}")
            if member in self.members:
                raise MalformedError(f"expected {member[:100]!r} in one group, got two")
            self.members.add(member)

    def _quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise MalformedError("expected one quorum line, got two")
        if name not in self.names:
            raise MalformedError(f"expected an earlier name, got {name[:100]!r}")
        self.quorum = name


def _threshold(text: str, count: int) -> int:
    needed = {"any": 1, "all": count}.get(text)
    needed = parse_decimal(text) if needed is None else needed
    if not 1 <= needed <= count:
        raise MalformedError(f"expected a threshold from 1 to {count}, got {needed}")
    return needed
