"""Asking a witness: each call to the store, and each message, is lost or the last one.

The witness is the product's own, behind a wire that loses requests and answers. What
it has signed once it never signs otherwise, so whoever asks again must arrive at the
same checkpoint.
"""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from auditlog.core.checkpoint import open_checkpoint
from auditlog.core.errors import StorageError
from auditlog.log.directory import LogDirectory
from auditlog.log.witnessing import Witnessing
from auditlog.web.witness_protocol import process_add_checkpoint
from tests.fakes import MemoryStore
from tests.faults.logs import (
    ITEMS,
    VERIFIERS,
    DiskLog,
    MemoryLog,
    directory_of,
    sequencer_of,
)
from tests.faults.stores import FaultyStore, acknowledged_by, rows
from tests.log.builders import ORIGIN, config_of
from tests.witnesses import listening, new_state, witness_signers

SIZE = 300
WireFate = Literal["lost", "persisted", "cut"]


def _prepare(store: Any) -> None:
    store.append(ITEMS[:SIZE])
    sequencer_of(store).step()


class Wire:
    """A witness, and what becomes of the messages to and from it."""

    def __init__(self, directory: Path, fates: dict[int, WireFate]) -> None:
        self.state = new_state(directory)
        self.requests: list[bytes] = []
        self._fates = fates

    def serve(self, connection: socket.socket) -> None:
        fate = self._fates.get(len(self.requests) - 1)
        if fate == "lost":
            return
        answer = self._answer(self.requests[-1].partition(b"\r\n\r\n")[2])
        if fate == "persisted":
            return
        connection.sendall(answer[: len(answer) // 2] if fate == "cut" else answer)

    def _answer(self, body: bytes) -> bytes:
        logs = {ORIGIN: VERIFIERS}
        answer = process_add_checkpoint(
            body, self.state, logs, witness_signers(), time.time()
        )
        head = f"HTTP/1.1 {answer.status} Status\r\nContent-Type: {answer.content_type}"
        length = len(answer.body)
        return f"{head}\r\nContent-Length: {length}\r\n\r\n".encode() + answer.body


@contextmanager
def _asked(directory: Path, fates: dict[int, WireFate] | None = None) -> Iterator[Wire]:
    """Serve a witness, and name it in the policy of the log in `directory`."""
    (directory / "witness").mkdir()
    wire = Wire(directory / "witness", fates or {})
    with listening(wire.serve, requests=wire.requests) as url:
        lines = [f"log {verifier.vkey}" for verifier in VERIFIERS]
        keys = [signer.verifier.vkey for signer in witness_signers()]
        lines += [f"witness w{number} {key} {url}" for number, key in enumerate(keys)]
        policy = "\n".join([*lines, "group both all w0 w1", "quorum both"])
        (directory / "policy").write_text(f"{policy}\n")
        yield wire
    wire.state.close()


def _witnessing(log: LogDirectory) -> Witnessing:
    return Witnessing(log, config_of(log.paths.directory), time.time)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("calls")
    store = MemoryStore(ORIGIN)
    _prepare(store)
    counted = FaultyStore(store)
    with _asked(directory):
        _grow_and_ask(directory_of(store, directory))
        store.append(ITEMS[SIZE + 1 : SIZE + 2])
        sequencer_of(store).step()
        _witnessing(directory_of(counted, directory)).ask()
    return counted.calls


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(_prepare)
    return DiskLog(_prepare, tmp_path_factory.mktemp("log"))


def _grow_and_ask(log: LogDirectory) -> None:
    """Have the first checkpoint cosigned, so that the next needs a proof."""
    _witnessing(log).ask()
    log.store.append(ITEMS[SIZE : SIZE + 1])
    sequencer_of(log.store).step()


def _is_cosigned(log: LogDirectory) -> bool:
    newest = log.store.newest()
    assert newest is not None
    return len(log.store.cosignatures(newest[0])) == len(witness_signers())


def _ask_until_cosigned(log: LogDirectory, witnessing: Witnessing) -> None:
    for _ in range(3):
        witnessing.ask()
        if _is_cosigned(log):
            return
    raise AssertionError("three attempts brought no cosignature")


def _expect_one_history(log: LogDirectory, wire: Wire) -> None:
    newest = log.store.newest()
    assert newest is not None
    size, note = newest
    lines = b"".join(one.line for one in log.store.cosignatures(size))
    signed = open_checkpoint(note + lines, log.policy())
    assert wire.state.latest(ORIGIN) == (size, signed.checkpoint.root)
    assert wire.state.refused(ORIGIN) == []


def test_a_second_question_reads_the_tiles_of_the_proof(calls: list[str]) -> None:
    assert calls[0] == "newest"
    assert calls[-1] == "add_cosignatures"
    assert "get" in calls


@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str], again: str
) -> None:
    for number, fate in rows(calls, "lost", "persisted"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = log.copy(directory)
        healthy = directory_of(store, directory)
        with _asked(directory) as wire:
            _grow_and_ask(healthy)
            faulty = directory_of(FaultyStore(store, {number: fate}), directory)
            witnessing = _witnessing(faulty)
            if calls[number] == "get":
                witnessing.ask()  # No proof, so that witness is not asked.
            else:
                with pytest.raises(StorageError, match="failed as ordered"):
                    witnessing.ask()
            second = witnessing if again == "the same" else _witnessing(healthy)
            _ask_until_cosigned(healthy, second)
            _expect_one_history(healthy, wire)
        log.check(store, directory)


def test_a_call_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    for number, fate in rows(calls, "killed before", "killed after"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        with log.copy(directory) as store, _asked(directory) as wire:
            _grow_and_ask(directory_of(store, directory))

            def work(
                say: Callable[[str], None],
                directory: Path = directory,
                fates: Any = {number: fate},  # noqa: B006
            ) -> None:
                with log.reopened(directory) as store:
                    mine = directory_of(FaultyStore(store, fates), directory)
                    _witnessing(mine).ask()
                    # Where it is asked from several threads, another one dies first.
                    say("survived")

            assert acknowledged_by(work) == []
            healthy = directory_of(store, directory)
            _ask_until_cosigned(healthy, _witnessing(healthy))
            _expect_one_history(healthy, wire)
            log.check(store, directory)


# Who remembers what the witness has seen needs no answer to learn it.
@pytest.mark.parametrize(
    ("again", "message"),
    [("the same", n) for n in range(3)] + [("another", n) for n in range(5)],
)
@pytest.mark.parametrize("fate", ["lost", "persisted", "cut"])
def test_a_message_that_is_lost(
    log: MemoryLog | DiskLog, tmp_path: Path, message: int, fate: WireFate, again: str
) -> None:
    store = log.copy(tmp_path)
    opened = directory_of(store, tmp_path)
    with _asked(tmp_path, {message: fate}) as wire:
        witnessing = _witnessing(opened)
        for size in (SIZE, SIZE + 1):
            _ask_until_cosigned(opened, witnessing)
            _expect_one_history(opened, wire)
            store.append(ITEMS[size : size + 1])
            sequencer_of(store).step()
            if again == "another":
                witnessing = _witnessing(opened)
        _ask_until_cosigned(opened, witnessing)
        _expect_one_history(opened, wire)
        assert len(wire.requests) > message
    log.check(store, tmp_path)


# --- one that is away -----------------------------------------------------------------


def test_one_that_is_away_is_asked_again_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others may have promised few requests a day, and a log is read by people."""
    store = MemoryLog(_prepare).copy(tmp_path)
    log = directory_of(store, tmp_path)
    with _asked(tmp_path) as wire:
        away = tmp_path / "policy"
        kept = away.read_text()
        away.write_text(
            re.sub(r"(witness w0 .*) http.*", r"\1 http://127.0.0.1:1", kept)
        )
        witnessing = _witnessing(log)
        for _ in range(5):
            witnessing.ask()
        assert len(wire.requests) == 1
        assert caplog.text.count("w0 did not cosign: cannot reach") == 1
        away.write_text(kept)
        witnessing.ask()
        assert _is_cosigned(log)
        assert len(wire.requests) == 3, "one that says what it has seen, and one more"
        witnessing.ask()
        assert len(wire.requests) == 3
        _expect_one_history(log, wire)
