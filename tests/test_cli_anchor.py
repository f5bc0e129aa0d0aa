"""`auditlog anchor`, and what `doctor` says of anchors."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from auditlog.cli import anchoring
from auditlog.cli.output import Output
from auditlog.cli.parser import parse
from auditlog.core.errors import ConfigurationError, RollbackError
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.check import check_log
from auditlog.log.diagnosis import Finding, look_at_anchors
from auditlog.log.directory import create_log, open_log
from auditlog.storage import AttestationRow
from tests.anchoring import KINDS, World, check_attestations, write_anchors
from tests.command import Done, auditlog
from tests.filled import fill_log
from tests.harness import check_whole_log
from tests.log.builders import config_of, gap_items, now_us

ORIGIN = "log.example/tests"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory, 3)
    return directory


@pytest.fixture
def log(filled: Path, tmp_path: Path) -> Path:
    """A copy of a log that takes the place of the original, with one fake anchor."""
    shutil.copytree(filled, tmp_path / "audit")
    (tmp_path / "audit" / "place").unlink()
    write_anchors(tmp_path / "audit", {})
    return tmp_path / "audit"


def _anchor(directory: Path, *arguments: object) -> Done:
    """Run a command here, with fake anchors: their registry is an argument."""
    command = parse(["anchor", *map(str, arguments), "--dir", str(directory)])
    function = getattr(anchoring, command.home.partition(":")[2])
    more = {} if function is anchoring.status else {"kinds": KINDS}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        output = Output(machine=command.options.json)
        status = function(command.options, output, **more)
    return Done(status, out.getvalue(), err.getvalue())


def _rows(done: Done) -> list[list[str]]:
    return [line.split("\t") for line in done.out.splitlines()]


def test_now_anchors_what_is_there_and_signs_the_entry_about_it(log: Path) -> None:
    size = len(check_whole_log(log).entries)
    done = _anchor(log, "now")
    assert (done.status, done.err) == (0, "")
    assert _rows(done) == [["a1", "log.example/tests", str(size), "final", ""]]
    whole = check_whole_log(log)
    assert whole.checkpoints[-1][0] == len(whole.entries) == size + 1
    with open_log(log) as opened:
        assert check_attestations(opened) == [(size, "a1", "final")]


def test_now_again_asks_nobody_and_says_what_stands(log: Path) -> None:
    first = _anchor(log, "now")
    again = _anchor(log, "now")
    assert (again.status, again.out) == (0, first.out)
    assert len(World(log / "world").submissions()) == 1


def test_what_is_pending_is_12_and_upgrade_follows_it(log: Path) -> None:
    write_anchors(log, {"mode": "wait"})
    assert _anchor(log, "now").status == 12
    assert _anchor(log, "upgrade").status == 12
    World(log / "world").set("ripe")
    done = _anchor(log, "upgrade", "--json")
    assert done.status == 0
    (attempt,) = done.document()["attempts"]
    assert attempt["state"] == "final"
    assert len(World(log / "world").submissions()) == 1


def test_what_fails_is_1_with_its_reason(log: Path) -> None:
    write_anchors(log, {"fates": ["untrusted"]}, {"name": "a2"})
    done = _anchor(log, "now", "--json")
    assert (done.status, done.document()["ok"]) == (1, False)
    states = [(one["anchor"], one["state"]) for one in done.document()["attempts"]]
    assert states == [("a1", "failed"), ("a2", "final")]
    warning = (
        "auditlog: warning: a1: untrusted: an answer by somebody who is not config"
    )
    assert warning in done.err


def test_several_logs_get_one_digest(log: Path, tmp_path: Path) -> None:
    others = [tmp_path / "b", tmp_path / "c"]
    for other in others:
        with create_log(config_of(other, origin=f"log.example/{other.name}")) as made:
            made.store.append(gap_items(2, origin=made.origin))
    done = _anchor(log, "now", "--also", *others)
    assert done.status == 0
    assert [row[3] for row in _rows(done)] == ["final"] * 3
    assert len(World(log / "world").submissions()) == 1
    for directory in (log, *others):
        with open_log(directory) as opened:
            ((_, anchor, state),) = check_attestations(opened)
            assert (anchor, state) == ("a1", "final")
            assert check_log(opened).problems == ()


def test_the_same_log_twice_is_a_mistake(log: Path, tmp_path: Path) -> None:
    for same in (log, shutil.copytree(log, tmp_path / "copy")):
        with pytest.raises(ConfigurationError, match="--also takes other logs, each o"):
            _anchor(log, "now", "--also", same)


def test_nothing_is_signed_of_which_an_anchor_knows_another_past(log: Path) -> None:
    """A restored copy, or one that was rewritten: by hand it must not go on either."""
    write_anchors(log, {"keeps": True})
    World(log / "world").note("told", origin=ORIGIN, size=2, root="11" * 32)
    with open_log(log) as opened:
        opened.store.append(gap_items(2, origin=ORIGIN))
        signed = opened.store.newest()
    with pytest.raises(RollbackError, match=r"anchor a1, log .*another root of 2"):
        _anchor(log, "now")
    with open_log(log) as opened:
        assert opened.store.newest() == signed


def test_a_keeper_that_is_away_keeps_nothing_from_being_signed(log: Path) -> None:
    write_anchors(log, {"keeps": True})
    World(log / "world").set("down")
    done = _anchor(log, "now")
    assert (done.status, [row[4] for row in _rows(done)]) == (1, ["unreachable"])


def test_status_of_a_log_that_nobody_used_yet_claims_nothing(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "new")):
        pass
    assert _anchor(tmp_path / "new", "status").out == (
        "nothing is open but entries about anchors and emitters, after the first 0 "
        "entries\n"
    )


@pytest.mark.parametrize("verb", ["now", "upgrade"])
def test_without_anchors_there_is_nobody_to_ask(log: Path, verb: str) -> None:
    (log / "anchors.toml").unlink()
    done = auditlog("anchor", verb, "--dir", log)
    assert done.status == 2
    assert "there is no anchor to ask: name one in" in done.err


def test_a_file_that_is_wrong_is_said_with_its_place(log: Path) -> None:
    (log / "anchors.toml").write_text('[[anchor]]\nkind = "smoke"\nname = "x"\n')
    done = auditlog("anchor", "now", "--dir", log, "--json")
    assert (done.status, done.document()["exit_code"]) == (2, 2)
    assert "anchor x: kind takes one of evm, ots, rfc3161; got 'smoke'" in done.err


# --- status ---------------------------------------------------------------------------


def test_status_says_what_is_final_and_that_nothing_is_open(log: Path) -> None:
    size = len(check_whole_log(log).entries)
    _anchor(log, "now")
    done = _anchor(log, "status")
    assert done.status == 0
    assert f"final     checkpoint {size}, 20" in done.out
    assert "behind    nothing\n" in done.out
    assert done.out.endswith(
        "nothing is open but entries about anchors and emitters, after the first "
        f"{size} entries\n"
    )


def test_status_names_the_open_window(log: Path) -> None:
    _anchor(log, "now")
    with open_log(log) as opened:
        opened.store.append(gap_items(3))
    document = _anchor(log, "status", "--json").document()
    (anchor,) = document["anchors"]
    assert document["open"]["entries"] == anchor["lag"]["entries"] == 3
    assert 0 <= anchor["lag"]["seconds"] < 60
    said = _anchor(log, "status").out
    assert "open: 3 entries, for " in said
    assert "whoever has the keys could still rewrite them" in said


def test_status_tells_of_failures_and_of_the_next_try(log: Path) -> None:
    write_anchors(log, {"fates": ["unreachable"]})
    _anchor(log, "now")
    said = _anchor(log, "status").out
    assert "final     nothing yet\n" in said
    assert "failures  1 in a row, unreachable\n" in said
    assert "next try  20" in said


def test_status_knows_anchors_that_are_gone(log: Path) -> None:
    write_anchors(log, {"mode": "wait"})
    _anchor(log, "now")
    (log / "anchors.toml").unlink()
    said = _anchor(log, "status").out
    assert "kind     fake, not configured\n" in said
    assert "pending  1, since 20" in said


def test_status_of_a_log_without_anchors(log: Path) -> None:
    (log / "anchors.toml").unlink()
    document = _anchor(log, "status", "--json").document()
    assert document["anchors"] == []
    assert document["open"]["entries"] > 0


# --- doctor ---------------------------------------------------------------------------


def _found(log: Path) -> list[Finding]:
    with open_log(log, read_only=True) as opened:
        return list(look_at_anchors(opened, now_us() / 1e6, KINDS))


def test_doctor_says_which_anchors_cannot_be_used(log: Path) -> None:
    write_anchors(log, {"mode": "sing"}, {"name": "a2"}, {"kind": "x", "name": "a3"})
    bad, good, unknown = _found(log)
    assert (bad.level, bad.what) == ("problem", "anchor a1")
    assert "expected mode and world" in bad.said
    assert "would not start" in bad.todo
    assert (good.level, good.said) == ("ok", "fake, nothing final yet, 0 pending")
    assert "kind takes one of fake; got 'x'" in unknown.said


def test_doctor_says_how_far_they_are(log: Path) -> None:
    with open_log(log) as opened:
        size = opened.store.size()
        row = AttestationRow(size, "a1", "fake", "final", b"{}", 0, now_us())
        Ledger(opened.store, opened.origin).keep(row, 1)
    (found,) = _found(log)
    assert found.said == f"fake, final up to {size} entries, 0 pending"


def test_doctor_names_what_fails(log: Path) -> None:
    write_anchors(log, {"fates": ["unverified"]})
    _anchor(log, "now")
    (found,) = _found(log)
    assert found.level == "warning"
    assert found.said == "failed 1 times in a row: unverified"


def test_doctor_says_what_is_wrong_with_the_file(log: Path) -> None:
    (log / "anchors.toml").write_text("[anchor]\n")
    done = auditlog("doctor", "--dir", log, "--json")
    assert done.status == 1
    findings = {one["what"]: one for one in json.loads(done.out)["findings"]}
    assert "expected tables [[anchor]] and nothing else" in findings["anchors"]["said"]
    (log / "anchors.toml").unlink()
    assert [one.level for one in _found(log)] == ["ok"]
