"""What followed a decision stands in the log as an entry of its own, once."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from auditlog.cli import main
from auditlog.core.record import format_id, parse_entry
from auditlog.log.amendment import aftermath_entry, aftermath_id
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from tests.harness import check_whole_log
from tests.log.builders import ORIGIN, config_of, exchange, now_us


def _record(runtime: Runtime) -> bytes:
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    return one.id


def test_it_says_which_decision_and_what_and_nothing_else() -> None:
    decision, now = exchange(0).id, now_us()
    entry = aftermath_entry(decision, "error_after_response", ORIGIN, now)
    assert entry.type == "auditlog.amendment.v1"
    assert entry.data == {
        "decision": format_id(decision),
        "kind": "error_after_response",
    }
    assert (entry.source, entry.time, entry.subject) == (ORIGIN, now, None)


def test_its_id_follows_from_the_decisions() -> None:
    first, second = exchange(0).id, exchange(1).id
    assert aftermath_id(first) == aftermath_id(first)
    assert len({first, second, aftermath_id(first), aftermath_id(second)}) == 4
    assert aftermath_id(first)[:6] == first[:6], "ids sort by time"


def test_a_reader_finds_it_with_the_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    decision, other = _record(runtime), _record(runtime)
    runtime.amend(decision, "client_disconnected")
    runtime.stop()
    with open_log(directory, read_only=True) as log:
        view = Reader(log).decision(format_id(decision))
        assert Reader(log).decision(format_id(other)).amendments == ()
        report = check_log(log)
    assert (report.problems, report.unchecked) == ((), ())
    (amendment,) = view.amendments
    assert parse_entry(amendment).data["kind"] == "client_disconnected"
    kinds = [json.loads(one)["type"] for one in check_whole_log(directory).entries]
    assert kinds.index("auditlog.amendment.v1") > kinds.index("auditlog.decision.v1")
    shown = _show(capsys, directory, decision)
    assert [one["kind"] for one in shown["amendments"]] == ["client_disconnected"]
    assert _show(capsys, directory, other)["amendments"] == []


def _show(capsys: pytest.CaptureFixture[str], directory: Path, id_: bytes) -> Any:
    main(["show", format_id(id_), "--dir", str(directory), "--json"])
    return json.loads(capsys.readouterr().out)


def test_people_see_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    decision = _record(runtime)
    runtime.amend(decision, "error_after_response")
    runtime.stop()
    main(["show", format_id(decision), "--dir", str(tmp_path / "audit")])
    lines = capsys.readouterr().out.splitlines()
    assert ["afterwards", "error_after_response"] in [line.split() for line in lines]


def test_after_the_stop_it_is_said_that_it_is_not_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    decision = _record(runtime)
    runtime.stop()
    runtime.amend(decision, "error_after_response")
    said = f"of decision {format_id(decision)} it is not recorded: error_after_response"
    assert said in caplog.text


def test_it_waits_for_the_disk_no_more_than_decisions_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    assert runtime.flush(5)
    recorder, store = runtime._recorder, runtime._log.store
    monkeypatch.setattr(recorder, "_capacity", 3)
    hanging, go, append = threading.Event(), threading.Event(), store.append

    def hang(items: Any) -> int:
        hanging.set()
        go.wait(10)
        return append(items)

    monkeypatch.setattr(store, "append", hang)
    decision = _record(runtime)
    assert hanging.wait(10)
    for _ in range(3):
        _record(runtime)
    runtime.amend(decision, "error_after_response")
    go.set()
    runtime.stop()
    assert "it is not recorded: error_after_response" in caplog.text
    assert len(check_whole_log(tmp_path / "audit").decisions) == 4
