"""What the public sees: a quorum's newest checkpoint, and never an older one again."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import MalformedError, PendingError, RollbackError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    Signer,
    make_signer,
    split_unverified_note,
)
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.publication import PublicCheckpoint, PublicView
from auditlog.log.reader import Reader
from auditlog.log.sequencer import Sequencer
from auditlog.storage import Cosignature
from auditlog.storage.sqlite import SqliteStore
from tests.log.builders import config_of, gap_items

NOW = 1_800_000_000
W1, W2, STRANGER = (
    make_signer(f"w{n}.example", COSIGNATURE_ED25519, bytes([n]) * 32) for n in range(3)
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDirectory]:
    with create_log(config_of(tmp_path / "audit")) as opened:
        ask_for(opened, "both all w1 w2")
        yield opened


def ask_for(log: LogDirectory, group: str) -> None:
    """Let the policy ask for a group of witnesses, or for none."""
    lines = [f"log {vkey}" for vkey in log.vkeys]
    lines += [f"witness w1 {W1.verifier.vkey}", f"witness w2 {W2.verifier.vkey}"]
    if group == "none":
        lines += ["quorum none"]
    else:
        lines += [f"group {group}", f"quorum {group.split(maxsplit=1)[0]}"]
    log.policy_path.write_text("\n".join([*lines, ""]))


def grow(log: LogDirectory, *signers: Signer) -> int:
    """Add an entry, sign a checkpoint, let witnesses cosign it; return its size."""
    log.store.append(gap_items(1))
    size = Sequencer(log.store, log.origin, log.signers).step()
    cosign(log, size, *signers)
    return size


def cosign(log: LogDirectory, size: int, *signers: Signer) -> None:
    found = log.store.covering(size)
    assert found is not None
    text, _ = split_unverified_note(found[1])
    lines = [
        Cosignature(size, one.verifier.key, NOW, one.sign(text, NOW)) for one in signers
    ]
    log.store.add_cosignatures(lines)


def seen(shown: PublicCheckpoint) -> tuple[int, bool]:
    """Return what is shown, having looked at its note."""
    text, _ = split_unverified_note(shown.note)
    assert parse_checkpoint(text).size == shown.size
    return shown.size, shown.witnessed


def test_nothing_was_signed_yet(log: LogDirectory) -> None:
    with pytest.raises(PendingError, match="has no checkpoint yet"):
        PublicView(log).checkpoint()


def test_without_a_quorum_it_is_the_newest_and_says_so(log: LogDirectory) -> None:
    ask_for(log, "none")
    view = PublicView(log)
    for size in (1, 2):
        assert grow(log, *([W1, W2] if size == 1 else [])) == size
        assert seen(view.checkpoint()) == (size, False)
        assert view.checkpoint().note == Reader(log).checkpoint()


@pytest.mark.parametrize("signers", [[], [W1], [STRANGER], [W1, STRANGER]])
def test_until_the_quorum_agrees_nothing_is_public(
    log: LogDirectory, signers: list[Signer]
) -> None:
    grow(log, *signers)
    with pytest.raises(
        PendingError,
        match=r"no checkpoint of log .* meets the quorum 'both' of its pol",
    ):
        PublicView(log).checkpoint()
    assert not log.paths.published.exists()


def test_it_is_the_newest_that_the_quorum_cosigned(log: LogDirectory) -> None:
    view = PublicView(log)
    grow(log, W1, W2)
    assert seen(view.checkpoint()) == (1, True)
    grow(log, W1)
    grow(log)
    assert seen(view.checkpoint()) == (1, True)
    cosign(log, 2, W2)
    assert seen(view.checkpoint()) == (2, True)
    cosign(log, 3, W1, W2, STRANGER)
    assert seen(view.checkpoint()) == (3, True)
    assert view.checkpoint().note.count("\n— ".encode()) == 5
    # What the operator and the proofs see is the newest that was signed.
    grow(log)
    assert b"\n4\n" in Reader(log).checkpoint()
    assert len(Reader(log).tile("tile/0/000.p/4")) == 4 * 32


def test_a_cosignature_that_is_damaged_does_not_count(log: LogDirectory) -> None:
    size = grow(log, W1)
    line = W2.sign(b"another text\n", NOW)
    log.store.add_cosignatures([Cosignature(size, W2.verifier.key, NOW, line)])
    with pytest.raises(PendingError, match="meets the quorum"):
        PublicView(log).checkpoint()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("before", ["any any w1 w2", "none"])
def test_it_never_goes_back_when_the_policy_asks_for_more(
    log: LogDirectory, before: str, restarted: bool
) -> None:
    grow(log, W1, W2)
    grow(log, W1)
    ask_for(log, before)
    view = PublicView(log)
    assert view.checkpoint().size == 2
    ask_for(log, "both all w1 w2")
    view = PublicView(log) if restarted else view
    assert seen(view.checkpoint()) == (2, False)
    grow(log, W1)
    assert seen(view.checkpoint()) == (2, False)
    cosign(log, 2, W2)
    assert seen(view.checkpoint()) == (2, True)
    grow(log, W1, W2)
    assert seen(view.checkpoint()) == (4, True)


def test_a_restored_backup_shows_nothing(log: LogDirectory) -> None:
    ask_for(log, "none")
    grow(log)
    log.paths.published.write_text("7\n")
    with pytest.raises(
        RollbackError,
        match="size 7 was shown to the public, the newest one here is of size 1: was",
    ):
        PublicView(log).checkpoint()


@pytest.mark.parametrize("text", ["", "x\n", "-1\n", "07\n", "1\n2\n", "\udcff"])
def test_what_was_kept_and_cannot_be_read_is_said(log: LogDirectory, text: str) -> None:
    grow(log, W1, W2)
    log.paths.published.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MalformedError, match=r"expected a size in .*published"):
        PublicView(log).checkpoint()


def test_two_processes_keep_the_larger(log: LogDirectory) -> None:
    one, two = PublicView(log), PublicView(log)
    for size in range(1, 6):
        grow(log, W1, W2)
        assert (one if size % 2 else two).checkpoint().size == size
        assert log.paths.published.read_text() == f"{size}\n"
    assert one.checkpoint() == two.checkpoint()


def test_a_size_that_cannot_be_kept_is_shown_and_told_once(
    log: LogDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    log.paths.published.with_name("published.lock").mkdir()
    view = PublicView(log)
    with caplog.at_level(logging.WARNING, "auditlog"):
        for size in (1, 2):
            grow(log, W1, W2)
            assert seen(view.checkpoint()) == (size, True)
    assert caplog.text.count("what is public cannot be kept") == 1
    ask_for(log, "more all w1 w2")
    assert view.checkpoint().size == 2


def test_it_is_kept_before_it_is_shown(
    log: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    keep = PublicView._keep

    def noted(self: PublicView, size: int) -> None:
        keep(self, size)
        order.append(self._log.paths.published.read_text())

    monkeypatch.setattr(PublicView, "_keep", noted)
    grow(log, W1, W2)
    view = PublicView(log)
    order.append(str(view.checkpoint().size))
    view.checkpoint()
    assert order == ["1\n", "1"]


def test_it_does_not_go_back_however_many_came_since(log: LogDirectory) -> None:
    grow(log, W1, W2)
    grow(log)
    ask_for(log, "none")
    assert PublicView(log).checkpoint().size == 2
    for _ in range(66):
        grow(log, W1)
    ask_for(log, "both all w1 w2")
    view = PublicView(log)
    for _ in range(2):
        assert seen(view.checkpoint()) == (2, False)


def test_looking_costs_the_same_however_long_nothing_met_the_quorum(
    log: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(70):
        grow(log, W1)
    looked: list[int] = []
    cosignatures = SqliteStore.cosignatures

    def counted(self: SqliteStore, size: int) -> list[Cosignature]:
        looked.append(size)
        return cosignatures(self, size)

    monkeypatch.setattr(SqliteStore, "cosignatures", counted)
    view = PublicView(log)
    for expected in (range(70, 0, -1), range(70, 6, -1)):
        looked.clear()
        with pytest.raises(PendingError):
            view.checkpoint()
        assert looked == list(expected)
