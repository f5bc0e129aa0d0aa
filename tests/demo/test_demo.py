import base64
import json
import os
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from auditlog.core.errors import NotFoundError
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import DECISION, Entry, format_id, parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.reader import Reader
from auditlog.storage import ERASED, IndexRow, Query
from demo_service.__main__ import main
from demo_service.models import NAME, train_models
from demo_service.processes import ROOT, wait_until
from demo_service.screen import WIDTH
from demo_service.text.model import train_text_model
from tests.demo.conftest import Run, play

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)


def processes_of(output: Path) -> list[str]:
    """Return the command lines of live processes that name the demo's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes()
            env = (path / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(output) in line + env and int(path.name) != os.getpid():
            found.append(line.decode(errors="replace").replace("\0", " "))
    return found


def test_the_demo_plays_to_its_end_on_one_screen(demo: Run) -> None:
    assert (demo.status, demo.complaints) == (0, "")
    lines = demo.screen.splitlines()
    # The paths in the commands at the end are as long as somebody's directory.
    assert len(lines) <= 56
    assert [line for line in lines[:-7] if len(line) > WIDTH] == []
    (checked,) = (line for line in lines if line.startswith("   check "))
    assert checked.endswith(" attestations: all hold")
    assert demo.screen.isascii()


def test_the_demo_does_not_take_long(demo: Run) -> None:
    # A minute is promised, a quarter of it is usual; other tests may run beside it.
    assert demo.seconds < 120


def test_the_demo_says_what_is_caught_and_what_is_not(demo: Run) -> None:
    chain = "the chain" in demo.parties
    assert demo.screen.count("CAUGHT") == 14 + chain
    assert demo.screen.count("NOT CAUGHT") == 2
    for words in (
        "edits stored content            CAUGHT",
        "deletes an entry                CAUGHT",
        "swaps two entries               CAUGHT",
        "rebuilds and re-signs it all    passes      check",
        "CAUGHT      witnesses: 3 of 3, 409",
        "CAUGHT      witnesses: 3 of 3, 422",
        "... and has that anchored       CAUGHT      time: none of the",
        "CAUGHT      time: a new stamp says",
        "CAUGHT      chain: it has another root of" if chain else "left out: ",
        "... before any witness saw it   NOT CAUGHT",
        "answers around the middleware   NOT CAUGHT",
    ):
        assert words in demo.screen


@pytest.mark.slow
def test_without_node_the_chain_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    demo = play(tmp_path, PATH=str(tmp_path / "bin"))
    assert (demo.status, demo.complaints) == (0, "")
    assert "chain       left out: it needs node and npm (Node.js)\n" in demo.screen
    assert "by the authority, offline" in demo.screen
    assert "the authority and the chain" not in demo.screen
    assert demo.screen.count("CAUGHT") == 14
    assert demo.parties == {"the authority"}


def test_the_demo_leaves_what_the_reader_needs(demo: Run) -> None:
    assert sorted(demo.receipts) == [
        "batch-v1.receipt.json",
        "batch-v2.receipt.json",
        "erasure.receipt.json",
        "forgotten.receipt.json",
        "json-v1.receipt.json",
        "json-v2.receipt.json",
        "letter.receipt.json",
        "patient.receipt.json",
        "stream-v1.receipt.json",
        "stream-v2.receipt.json",
    ]
    assert (demo.output / "verify_receipt.pyz").is_file()
    assert (demo.output / ".gitignore").read_text() == "*\n"
    for name in ("edited", "deleted", "swapped", "rebuilt"):
        assert (demo.output / "operator" / name / "log.sqlite3").is_file()


@needs_proc
def test_no_process_is_left(demo: Run) -> None:
    assert processes_of(demo.output) == []


def test_nothing_went_wrong_out_of_sight(demo: Run) -> None:
    for log in (demo.output / "processes").iterdir():
        said = log.read_text()
        assert "Traceback" not in said, said
        assert "Exception" not in said, said


def test_the_keys_of_the_log_are_private(demo: Run) -> None:
    for path in (demo.output / "log" / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def commands(demo: Run) -> list[str]:
    _, _, tail = demo.screen.partition("Try it:\n")
    return tail.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (0, 0, "10 of 10 files verified"),
        (1, 0, '"label":"malignant"'),
        (2, 0, "final     checkpoint"),
        (3, 0, "all hold"),
        (4, 10, "signed root"),
    ],
)
def test_the_commands_at_the_end_work_as_they_stand(
    demo: Run, number: int, status: int, words: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", commands(demo)[number]],
        cwd=demo.home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert words in done.stdout
    assert len(commands(demo)) == 5


def decisions(demo: Run) -> list[Entry]:
    with open_log(demo.output / "log") as log:
        entries = map(parse_entry, log.store.read(0, log.store.size()))
        return [entry for entry in entries if entry.type == DECISION]


def test_every_call_is_in_the_log_exactly_once(demo: Run) -> None:
    logged = decisions(demo)
    assert len(logged) == 601  # with the letter
    assert sorted(entry.data["sequence"] for entry in logged) == list(range(601))
    assert {entry.data["emitter"] for entry in logged} == {logged[0].data["emitter"]}
    assert {entry.data["outcome"] for entry in logged} == {"completed"}
    assert {entry.data["http.response.status_code"] for entry in logged} == {200}


def test_every_decision_names_the_model_that_made_it(demo: Run) -> None:
    text = train_text_model()
    trained = {
        (NAME, model.version, model.digest) for model in train_models().values()
    } | {(text.name, text.version, text.digest)}
    named = {
        tuple(entry.data[f"model.{what}"] for what in ("name", "version", "digest"))
        for entry in decisions(demo)
    }
    assert named == trained


def test_single_batched_and_streamed_answers_are_complete(demo: Run) -> None:
    answers = {
        (one["http.route"], one["response"]["mediaType"], one["response"]["state"])
        for one in (entry.data for entry in decisions(demo))
    }
    assert answers == {
        ("/predict", "application/json", "complete"),
        ("/predict/batch", "application/json", "complete"),
        ("/predict/stream", "text/event-stream", "complete"),
        ("/v1/chat/completions", "text/event-stream", "complete"),
    }


def test_no_measurement_and_no_result_stands_in_an_entry(demo: Run) -> None:
    for entry in decisions(demo):
        text = json.dumps(entry.data)
        assert not any(word in text for word in ("malignant", "benign", "radius"))


def test_the_log_holds_and_the_last_checkpoint_is_witnessed(demo: Run) -> None:
    with open_log(demo.output / "log") as log:
        report = check_log(log)
        newest = log.store.newest()
        assert newest is not None
        cosigned = log.store.cosignatures(newest[0])
    assert report.problems == ()
    assert [one for one in report.unchecked if "x evidence of kind" not in one] == []
    assert newest[0] >= 603  # 600 decisions, the emitter's two, and one reading
    keys = {witness.verifier.key for witness in demo.policy.witnesses}
    assert {one.key for one in cosigned} == keys


def test_the_name_of_no_patient_is_even_in_what_is_sealed(demo: Run) -> None:
    with open_log(demo.output / "log", read_only=True) as log:
        reader = Reader(log)
        rows = log.store.find(Query(route="/predict", limit=1 << 20))
        found = [reader.content(format_id(row.id)) for row in rows if _opens(log, row)]
    assert len(found) > 500
    for content in found:
        asked = json.loads(content.body("request").value)
        assert asked["patient"]["name"] == "[redacted]"
        assert asked["patient"]["number"].startswith("P-")


def _opens(log: LogDirectory, row: IndexRow) -> bool:
    assert row.index is not None
    stored = log.store.sealed(row.index)
    assert stored is not None
    return stored[0] != ERASED


def test_who_was_forgotten_left_entries_and_nothing_else(demo: Run) -> None:
    with open_log(demo.output / "log", read_only=True) as log:
        rows = log.store.find(Query(route="/predict", limit=1 << 20))
        closed = [row for row in rows if not _opens(log, row)]
        assert 5 <= len(closed) <= 7
        held = demo.receipts["forgotten.receipt.json"]
        verify_receipt(held, demo.policy)
        id_ = parse_entry(parse_receipt(held).entry).id
        assert id_ in {row.id for row in closed}
        with pytest.raises(NotFoundError, match="was erased: nothing can open it"):
            Reader(log).content(format_id(id_))


def test_the_archive_of_the_patient_is_whole(demo: Run) -> None:
    with zipfile.ZipFile(demo.output / "patient.zip") as archive:
        assert archive.testzip() is None
        index = json.loads(archive.read("index.json"))
    assert index["counts"]["unreadable"] == 0
    assert 5 <= len(index["decisions"]) <= 6
    for one in index["decisions"]:
        assert [part["what"] for part in one["missing"]] == ["request"]


def test_the_service_without_the_log_logged_nothing(demo: Run) -> None:
    # It answered one call too, so there would be a second emitter, or a 601st decision.
    with open_log(demo.output / "log") as log:
        rows = log.store.read(0, log.store.size())
    starts = [
        entry
        for entry in map(parse_entry, rows)
        if entry.type == "auditlog.emitter.v1" and entry.data["state"] == "start"
    ]
    assert len(starts) == 1
    assert len(base64.b64decode(starts[0].data["emitter"])) == 16


def test_a_folder_that_no_demo_made_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    assert main(["--output", str(tmp_path)]) == 1
    assert "no demo made it" in capsys.readouterr().err
    assert precious.read_text() == "mine"


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: int) -> None:
    output = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "demo_service", "--output", str(output)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as demo:
        # The service starts last; by then the witness runs.
        log = output / "processes" / "service-without-log.log"
        wait_until("the service", log.exists, 60)
        assert len(processes_of(output)) > 1
        demo.send_signal(number)
        _, complaints = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert complaints == b""
    assert processes_of(output) == []
