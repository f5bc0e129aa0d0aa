"""Anchors to ask, which enforce the contract of `auditlog.anchors.attestation.Anchor`.

What they have been asked stands in a directory outside the log, the *world*, which
survives the processes that ask and is shared by them. Three ways of working:

- ``stamp`` answers at once, as a time-stamp authority does;
- ``spend`` must not do a thing twice: it does it in `upgrade`, from a ticket that
  `submit` gave, and is final when it is looked at once more, as a chain is;
- ``wait`` is pending until the world says otherwise, as a calendar is.
"""

import hashlib
import json
import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditlog.anchors.attestation import (
    Anchor,
    Attestation,
    Consistency,
    anchor_digest,
)
from auditlog.anchors.batch import anchored_digest, parse_path
from auditlog.core.checkpoint import Checkpoint
from auditlog.core.encoding import format_base64
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    RollbackError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.merkle import verify_consistency
from auditlog.log.anchor_file import Configure
from auditlog.log.directory import LogDirectory
from tests.faults.stores import die

__all__ = [
    "KINDS",
    "FakeAnchor",
    "FakeKeeper",
    "World",
    "check_attestations",
    "configure",
    "write_anchors",
]

_FAILURES: dict[str, Exception] = {
    "unreachable": AuditLogError("cannot reach https://tsa.example"),
    "unverified": VerificationError("a stamp of something else came"),
    "untrusted": UntrustedError("a stamp of somebody else came"),
    "malformed": MalformedError("no stamp came"),
    "misconfigured": ConfigurationError("no such policy"),
    "fault": ZeroDivisionError("key 0xSECRET"),
}

_WRONG: dict[str, dict[str, Any]] = {
    "no JSON": {"x": 0.5},
    "ours": {"batch": 1},
    "long": {"x": "y" * 2**20},
}


class World:
    """What anchors were asked, and did, for ever."""

    def __init__(self, directory: Path) -> None:
        """Open a world, an empty one where nothing is."""
        directory.mkdir(exist_ok=True)
        self.directory = directory

    def note(self, what: str, **said: object) -> None:
        """Write down what was asked or done; nothing of it gets lost."""
        line = json.dumps({"what": what, **said}) + "\n"
        fd = os.open(self.directory / "world", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, line.encode())
        os.close(fd)

    def told(self, *what: str) -> list[dict[str, Any]]:
        """Return what was written down, in order."""
        try:
            lines = (self.directory / "world").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [one for one in map(json.loads, lines) if one["what"] in what]

    def submissions(self) -> list[str]:
        """Return the digests that were submitted, in order."""
        return [one["digest"] for one in self.told("submit")]

    def set(self, name: str, *, on: bool = True) -> None:
        """Make the world ``down``, so that nothing answers, or what waits ``ripe``."""
        path = self.directory / name
        path.touch() if on else path.unlink(missing_ok=True)

    def check(self) -> None:
        """Nothing that must not be done twice was."""
        spent = Counter(one["digest"] for one in self.told("spend"))
        assert set(spent.values()) <= {1}, "a digest was paid for twice"


class FakeAnchor:
    """An anchor that checks what it is asked, and fails on order.

    A test breaks the next calls by ``anchor.fates.append("lost")``.
    """

    kind = "fake"

    def __init__(self, name: str, world: World, mode: str) -> None:
        self.name = name
        self.world = world
        self.fates: list[str] = []
        self.shown: list[Sequence[Attestation]] = []
        """What was pending, by its word, at each submission."""
        self.before: Callable[[str], object] = lambda call: None
        """Called before each call is done, with its name."""
        self._mode = mode
        self._lock = threading.Lock()

    def submit(
        self, digest: bytes, pending: Sequence[Attestation], *, now: float
    ) -> Attestation:
        with self._alone():
            self.shown.append(pending)
            assert all(one.state == "pending" for one in pending)
            assert all("batch" not in one.evidence for one in pending)
            times = [one.evidence["time"] for one in pending]
            assert times == sorted(times), "oldest first"
            return self._meet("submit", digest, now, lambda: self._take(digest, now))

    def upgrade(
        self, digest: bytes, attestation: Attestation, *, now: float
    ) -> Attestation:
        with self._alone():
            assert attestation.state == "pending"
            assert attestation.evidence["digest"] == format_base64(digest)
            return self._meet(
                "upgrade", digest, now, lambda: self._follow(digest, attestation)
            )

    def _alone(self) -> "_Alone":
        return _Alone(self._lock)

    def _meet(
        self, call: str, digest: bytes, now: float, do: Callable[[], Attestation]
    ) -> Attestation:
        assert len(digest) == 32
        assert math.isfinite(now)
        self.before(call)
        theirs = ("check ", "tell ", "keep ")
        ours = self.fates and not self.fates[0].startswith(theirs)
        fate = self.fates.pop(0) if ours else ""
        if (self.world.directory / "down").exists():
            fate = "unreachable"
        self.world.note(call, digest=format_base64(digest), now=now, fate=fate)
        if fate == "killed before":
            die()
        if fate in _FAILURES:
            raise _FAILURES[fate]
        got = do()
        if fate == "killed after":
            die()
        if fate == "lost":
            raise AuditLogError("the answer was lost")
        if fate == "another kind":
            return Attestation("other", got.state, got.evidence)
        if fate == "another state":
            return Attestation(got.kind, "done", got.evidence)  # type: ignore[arg-type]
        wrong: dict[str, dict[str, Any]] = {
            "no JSON": {"x": 0.5},
            "ours": {"batch": 1},
            "long": {"x": "y" * 2**20},
        }
        if fate in wrong:
            return Attestation(got.kind, got.state, wrong[fate])
        assert not fate or fate in {"lost", "killed after"}, fate
        return got

    def _take(self, digest: bytes, now: float) -> Attestation:
        evidence: dict[str, Any] = {"digest": format_base64(digest), "sent": False}
        evidence["time"] = int(now)
        if self._mode == "stamp":
            return self._final(digest)
        return Attestation(self.kind, "pending", evidence)

    def _follow(self, digest: bytes, pending: Attestation) -> Attestation:
        ripe = (self.world.directory / "ripe").exists()
        if self._mode == "wait":
            return self._final(digest) if ripe else pending
        spent = {one["digest"] for one in self.world.told("spend")}
        if pending.evidence["digest"] not in spent:
            self.world.note("spend", digest=pending.evidence["digest"])
        if pending.evidence["sent"]:
            return self._final(digest) if ripe else pending
        return Attestation(
            self.kind, "pending", dict(pending.evidence) | {"sent": True}
        )

    def _final(self, digest: bytes) -> Attestation:
        return Attestation(self.kind, "final", {"stamp": _stamp(digest)})


class FakeKeeper(FakeAnchor):
    """One that also keeps histories, and takes only trees that extend the last one.

    What it was told it keeps at once, or, in a ``slow`` world, once that is over. It
    is told by a ticket that is stored by then, and nothing by two tickets.
    """

    def check_history(self, checkpoint: Checkpoint, consistency: Consistency) -> int:
        self._fail("check", checkpoint)
        told = self._told(checkpoint.origin)
        if told is None:
            return 0
        size, root = told
        if size > checkpoint.size:
            raise RollbackError(f"{size} entries are known, {checkpoint.size} here")
        proof = consistency(size, checkpoint.size) if size < checkpoint.size else ()
        try:
            verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
        except VerificationError:
            raise RollbackError(f"another root of {size} entries is known") from None
        slow = (self.world.directory / "slow").exists()
        return 0 if slow else size

    def tell_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        pending: Sequence[Attestation],
        *,
        now: float,
    ) -> Attestation | None:
        assert all(one.state == "pending" for one in pending)
        self._fail("tell", checkpoint)
        known = self._told(checkpoint.origin)
        if known is not None and known[0] >= checkpoint.size:
            return None
        ticket = {"size": checkpoint.size, "time": int(now)}
        return self._last("tell", Attestation(self.kind, "pending", ticket))

    def follow_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        attestation: Attestation,
        *,
        now: float,
    ) -> Attestation:
        assert math.isfinite(now)
        assert attestation.state == "pending"
        assert attestation.evidence["size"] == checkpoint.size
        self._fail("keep", checkpoint)
        origin, size, root = checkpoint
        known = self._told(origin)
        if known is None or known[0] < size:
            if known is not None:
                proof = consistency(known[0], size)
                verify_consistency(*known, size, root, proof)
            ticket = attestation.evidence["time"]
            self.world.note(
                "told", origin=origin, size=size, root=root.hex(), ticket=ticket
            )
        elif not (self.world.directory / "slow").exists():
            done = Attestation(self.kind, "final", attestation.evidence)
            return self._last("keep", done)
        return self._last("keep", attestation)

    def _fail(self, call: str, checkpoint: Checkpoint) -> None:
        self.before(call)
        self.world.note(call, origin=checkpoint.origin, size=checkpoint.size)
        if (self.world.directory / "down").exists():
            raise _FAILURES["unreachable"]
        fate = self.fates[0].partition(" ")[2] if self._is_next(call) else ""
        if fate == "killed before":
            die()
        if fate in _FAILURES:
            self.fates.pop(0)
            raise _FAILURES[fate]

    def _last(self, call: str, got: Attestation) -> Attestation:
        """Return an answer, or let it get lost."""
        fate = self.fates.pop(0).partition(" ")[2] if self._is_next(call) else ""
        if fate == "killed after":
            die()
        if fate == "lost":
            raise AuditLogError("the answer was lost")
        assert not fate, fate
        return got

    def _is_next(self, call: str) -> bool:
        return bool(self.fates) and self.fates[0].startswith(f"{call} ")

    def _told(self, origin: str) -> tuple[int, bytes] | None:
        told = [one for one in self.world.told("told") if one["origin"] == origin]
        return (told[-1]["size"], bytes.fromhex(told[-1]["root"])) if told else None


class _Alone:
    """An anchor is asked by one thread of one process at a time."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        assert self._lock.acquire(blocking=False), "asked by two threads at once"

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _stamp(digest: bytes) -> str:
    return format_base64(hashlib.sha256(b"stamped " + digest).digest())


def configure(name: str, options: Mapping[str, Any], directory: Path) -> Anchor:
    """Make a fake anchor of its table, as strictly as a real kind does."""
    unknown = options.keys() - {"mode", "world", "fates", "keeps"}
    mode = options.get("mode", "stamp")
    if unknown or mode not in {"stamp", "spend", "wait"}:
        raise ConfigurationError(f"expected mode and world, got {sorted(options)}")
    make = FakeKeeper if options.get("keeps") else FakeAnchor
    anchor = make(name, World(directory / options.get("world", "world")), mode)
    anchor.fates = list(options.get("fates", []))
    return anchor


KINDS: Mapping[str, Configure] = {"fake": configure}


def write_anchors(directory: Path, *tables: Mapping[str, Any]) -> None:
    """Write ``anchors.toml``; what a table does not say is usual."""
    lines = []
    for number, table in enumerate(tables, 1):
        options = {"kind": "fake", "name": f"a{number}", **table}
        lines += ["[[anchor]]", *(f"{k} = {json.dumps(v)}" for k, v in options.items())]
    path = directory / "anchors.toml"
    path.with_suffix(".new").write_text("".join(f"{line}\n" for line in lines))
    path.with_suffix(".new").replace(path)


def check_attestations(log: LogDirectory) -> list[tuple[int, str, str]]:
    """Verify all attestations of a log against its entries; return what they are.

    It reads the rows by itself, and shares with the product only batch paths.

    Returns:
        Size, anchor and state of each, in this order.
    """
    with sqlite3.connect(log.paths.database) as db:
        rows = db.execute("SELECT * FROM attestations ORDER BY size, anchor").fetchall()
        notes = dict(db.execute("SELECT size, note FROM checkpoints"))
    db.close()
    entries = [json.loads(entry) for entry in log.store.read(0, log.store.size())]
    words = [one["data"] for one in entries if one["type"] == "auditlog.anchor.v1"]
    for size, anchor, kind, state, evidence, submitted, updated in rows:
        digest = anchor_digest(notes[size])
        expected = {
            "attempt": 1,
            "anchor": anchor,
            "digest": format_base64(digest),
            "evidence": format_base64(hashlib.sha256(evidence).digest()),
            "kind": kind,
            "size": size,
            "state": state,
        }
        told = [
            word for word in words if word | {"attempt": 1} == expected | {"attempt": 1}
        ]
        # What was lost again, after it was kept, is kept twice.
        times = [1, 2] if state == "kept" else [1]
        assert len(told) in times, f"told {len(told)} times: {expected}"
        assert submitted <= updated
        held = json.loads(evidence)
        if state == "final":
            top = digest
            if "batch" in held:
                top = anchored_digest(digest, parse_path(held["batch"]))
            assert held["stamp"] == _stamp(top)
    stored = {row[:2] for row in rows}
    kept = [word for word in words if word["state"] != "failed"]
    assert {(word["size"], word["anchor"]) for word in kept} == stored
    return [(row[0], row[1], row[3]) for row in rows]
