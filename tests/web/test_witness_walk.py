"""A witness in a process of its own, logs that lie, and kills: held against a model.

The model knows what each log may be said to have been: nothing, or one tree. It
predicts the status of every request, and what monitors are shown. A kill leaves two
possibilities at most: the request in flight was seen, or it was not.

``WITNESS_STEPS=20000`` walks further, ``WITNESS_SEED`` elsewhere.
"""

import hashlib
import http.client
import os
import random
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from auditlog.core.merkle import EMPTY_ROOT
from auditlog.core.note import (
    ED25519,
    ML_DSA_44,
    Verifier,
    make_signer,
    open_note,
    parse_vkey,
    sign_note,
)
from auditlog.storage.witness_directory import init_witness
from tests.witnesses import WITNESS_NAME, SomeLog

ROOT = Path(__file__).resolve().parents[2]
STEPS = int(os.environ.get("WITNESS_STEPS", "250"))
SEED = int(os.environ.get("WITNESS_SEED", "20261126"))
KILLS = max(4, STEPS // 60)
LARGEST = 590

LOGS = [
    SomeLog("log.example/classical"),
    SomeLog("log.example/both", (ED25519, ML_DSA_44)),
    SomeLog("log.example/listed", (ML_DSA_44,)),
]
UNKNOWN = SomeLog("log.example/unknown")
SERVE = """
import sys
from pathlib import Path
from auditlog.web.witness_server import serve_witness
directory, listed, *logs = sys.argv[1:]
serve_witness(
    Path(directory), logs, "127.0.0.1", 0, lists=[Path(listed)], qpd=10**9, rate=10**6,
    ready=lambda url: print(url, flush=True),
)
"""


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


class Tree(NamedTuple):
    """What a log is known to have been."""

    size: int
    root: bytes
    note: bytes
    """As the log signed it."""


NOTHING = Tree(0, EMPTY_ROOT, b"")


class Witness:
    """The process, started and killed as often as the walk says."""

    def __init__(self, directory: Path) -> None:
        self.known = [
            parse_vkey(vkey) for vkey in init_witness(directory / "w", WITNESS_NAME)
        ]
        listed = directory / "logs"
        vkey = LOGS[2].vkeys[0]
        listed.write_text(f"logs/v0\nvkey {vkey}\nqpd 2000000000\ncontact nobody\n")
        named = [key for log in LOGS[:2] for key in log.vkeys]
        self._command = [
            *(sys.executable, "-c", SERVE, str(directory / "w"), str(listed)),
            *named,
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self._url = urlsplit(self._process.stdout.readline().strip())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        self._process.kill()

    def send(self, method: str, path: str, body: bytes = b"") -> Reply:
        assert self._url.hostname is not None
        connection = http.client.HTTPConnection(
            self._url.hostname, self._url.port, timeout=20
        )
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            kind = response.headers.get("content-type", "")
            return Reply(response.status, kind, response.read())


class Request(NamedTuple):
    """What a log, or somebody else, asks for."""

    log: SomeLog
    old: int
    new: int
    fork: int | None
    hashes: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        note = self.log.note(self.new, self.fork)
        return self.log.request_with(self.old, self.hashes, note)

    def tree(self) -> Tree:
        root = self.log.root(self.new, self.fork)
        return Tree(self.new, root, self.log.note(self.new, self.fork))

    def expected(self, seen: Tree) -> int:
        """Return the status that tlog-witness asks for."""
        if self.old > self.new:
            return 400
        if self.old != seen.size:
            return 409
        good = self.log.proof(self.old, self.new, self.fork)
        honest = self.log.root(self.old, self.fork) == seen.root
        return 200 if honest and self.hashes == good else 422


class Walk:
    """Asks the witness whatever may be asked, and knows what it must answer."""

    def __init__(self, witness: Witness, chance: random.Random) -> None:
        self.witness = witness
        self.chance = chance
        self.seen = dict.fromkeys((log.origin for log in LOGS), NOTHING)
        self.shown: dict[str, bytes] = {}
        self.sent: list[Request] = []
        self.statuses: set[int] = set()
        self.in_flight: tuple[Request, list[Reply]] | None = None

    def step(self) -> None:
        log = self.chance.choice(LOGS)
        move = self.chance.choice(
            [self._ask, self._ask, self._ask, self._replay, self._strangers, self._look]
        )
        move(log)

    def _request(self, log: SomeLog) -> Request:
        seen = self.seen[log.origin]
        pick = self.chance.choice
        new = min(seen.size + pick([0, 0, 1, 1, 2, 7]), LARGEST)
        old = pick([seen.size] * 6 + [0, max(0, seen.size - 1), seen.size + 1])
        new = pick([new] * 8 + [seen.size // 2])
        # The first tree of a log decides which past is its own.
        forks = [None] * 6 + [0, seen.size // 2, max(0, seen.size - 1)]
        fork = None if seen.size == 0 else pick(forks)
        good = log.proof(old, new, fork) if old <= new else ()
        hashes = pick([good] * 6 + [(), (*good, b"h" * 32), good[::-1]])
        return Request(log, old, new, fork, hashes)

    def _ask(self, log: SomeLog) -> None:
        request = self._request(log)
        self.sent.append(request)
        self._expect(
            request, self.witness.send("POST", "/add-checkpoint", request.body)
        )

    def _replay(self, log: SomeLog) -> None:
        if self.sent:
            request = self.chance.choice(self.sent)
            reply = self.witness.send("POST", "/add-checkpoint", request.body)
            self._expect(request, reply)

    def _expect(self, request: Request, reply: Reply) -> None:
        seen = self.seen[request.log.origin]
        expected = request.expected(seen)
        self.statuses.add(expected)
        assert reply.status == expected, (request, reply)
        if expected == 409:
            size = b"%d\n" % seen.size
            assert reply == Reply(409, "text/x.tlog.size", size)
        if expected == 200:
            self.seen[request.log.origin] = request.tree()
            self._promised(request.log, request.tree(), reply.body)
            self.shown[request.log.origin] = request.tree().note + reply.body

    def _promised(self, log: SomeLog, tree: Tree, lines: bytes) -> None:
        """Hold what was signed against the keys of the witness."""
        known: list[Verifier] = self.witness.known
        signatures = open_note(tree.note + lines, known).signatures
        assert [one.verifier for one in signatures] == known
        assert lines == b"".join(one.line for one in signatures)

    def _strangers(self, log: SomeLog) -> None:
        """Nobody but a log that it knows moves anything."""
        size = self.seen[log.origin].size
        thief = make_signer(log.origin, ED25519, b"x" * 32)
        other = self.chance.choice([one for one in LOGS if one is not log])
        stolen = log.text(size) + b"\n" + other.note(size).partition(b"\n\n")[2]
        body, status = self.chance.choice(
            [
                (UNKNOWN.request(0, 7), 404),
                (log.request_with(size, (), sign_note(log.text(size), [thief])), 403),
                (log.request_with(size, (), stolen), 403),
                (b"old 0\n" + log.request(0, 7), 400),
                (self.chance.randbytes(100), 400),
                (log.request(0, 7) + b"x" * (1 << 16), 413),
            ]
        )
        self.statuses.add(status)
        assert self.witness.send("POST", "/add-checkpoint", body).status == status

    def _look(self, log: SomeLog) -> None:
        reply = self.witness.send("GET", monitor(log))
        if log.origin in self.shown:
            assert (reply.status, reply.body) == (200, self.shown[log.origin])
        else:
            assert reply.status == 404

    def kill_in_flight(self) -> None:
        """Kill the process at any moment while it answers."""
        log = self.chance.choice(LOGS)
        old = self.seen[log.origin].size
        new = min(old + 3, LARGEST)
        request = Request(log, old, new, None, log.proof(old, new))
        assert request.expected(self.seen[log.origin]) == 200
        self.sent.append(request)
        replies: list[Reply] = []
        asking = threading.Thread(target=self._try, args=(request, replies))
        asking.start()
        threading.Event().wait(self.chance.uniform(0, 0.02))
        self.witness.kill()
        asking.join()
        self.in_flight = request, replies

    def settle(self) -> None:
        """See which of two states the process remembers, and hold it to that."""
        assert self.in_flight is not None
        (request, replies), self.in_flight = self.in_flight, None
        log, after = request.log, request.tree()
        before = self.seen[log.origin]
        shown = self.witness.send("GET", monitor(log))
        if replies:
            # Said is said.
            assert replies[0].status == 200
            assert shown.body == after.note + replies[0].body
        if shown.status == 200:
            known = [
                t for t in (after, before) if t.note and shown.body.startswith(t.note)
            ]
            assert known, shown
            self.seen[log.origin] = known[0]
            self.shown[log.origin] = shown.body
            self._promised(log, known[0], shown.body.removeprefix(known[0].note))
        else:
            assert (shown.status, before) == (404, NOTHING)
        for one in LOGS:
            self._look(one)

    def _try(self, request: Request, replies: list[Reply]) -> None:
        try:
            reply = self.witness.send("POST", "/add-checkpoint", request.body)
        except (OSError, http.client.HTTPException):
            return
        replies.append(reply)


def monitor(log: SomeLog) -> str:
    return f"/{hashlib.sha256(log.origin.encode()).hexdigest()}/checkpoint"


def test_a_walk_with_kills_agrees_with_the_model(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    walk = Walk(witness, random.Random(SEED))
    for number in range(KILLS):
        with witness:
            if number:
                walk.settle()
            for _ in range(STEPS // KILLS):
                walk.step()
            walk.kill_in_flight()
    with witness:
        walk.settle()
    assert walk.statuses == {200, 400, 403, 404, 409, 413, 422}
    assert all(tree.size > 3 for tree in walk.seen.values())
