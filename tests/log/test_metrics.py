"""Prometheus metrics: what is counted, with which labels, and that off means off."""

import asyncio
import http.client
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess

from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.core.record import parse_id
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.anchor_status import watched_anchors
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.identity import new_id
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime
from auditlog.log.state import state_of
from auditlog.metrics import SILENT, AnchorLag, LogState, exposition, observer_for
from auditlog.models.identity import Model
from auditlog.storage import AttestationRow, Cosignature
from auditlog.web.api import create_app
from tests.command import environment, started
from tests.e2e.processes import wait_until
from tests.filled import fill_log, record_unsigned
from tests.log.builders import config_of, exchange, now_us

ROOT = Path(__file__).parents[2]
UNFINISHED = parse_id("01995e6c-0000-7000-8000-000000000000")


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _record(runtime: Runtime, count: int, **fields: object) -> None:
    for _ in range(count):
        one = exchange(0, **fields)  # type: ignore[arg-type]
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)


def test_decisions_are_counted_once_durable_by_what_stands_in_clear(
    tmp_path: Path,
) -> None:
    done = {"route": "/score", "model": "credit", "outcome": "completed"}
    failed = {"route": "other", "model": "other", "outcome": "error"}
    before = [_value("auditlog_decisions_total", **one) for one in (done, failed)]
    config = config_of(tmp_path / "a", metrics=True, models=("credit",))
    runtime = Runtime(config)
    _record(runtime, 5, model=Model("credit"))
    secret = Model("secret-model")
    _record(runtime, 2, route=None, model=secret, outcome="error")
    assert runtime.flush(10)
    after = [_value("auditlog_decisions_total", **one) for one in (done, failed)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [5, 2]
    assert _value("auditlog_inflight_decisions") == 0
    runtime.stop()
    text = generate_latest(REGISTRY).decode()
    for hidden in ("secret-model", "lang=en", "Ada"):
        assert hidden not in text


def test_what_is_open_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    gaps = _value("auditlog_sequence_gaps_total")
    lost = _value("auditlog_decisions_dropped_total", reason="overload")
    runtime = Runtime(config_of(tmp_path / "a", metrics=True))
    runtime.open(UNFINISHED, now_us())
    for _ in range(3):
        runtime._recorder.admit(runtime.open(new_id(now_us()), now_us()), "overload")
    assert runtime.flush(10)
    assert _value("auditlog_inflight_decisions") == 1
    named = _value("auditlog_decisions_dropped_total", reason="overload") - lost
    assert named == 3
    assert 1 <= _value("auditlog_sequence_gaps_total") - gaps <= 3
    runtime.stop()


def test_what_a_dead_process_left_is_counted_by_who_admits_it(tmp_path: Path) -> None:
    orphans = _value("auditlog_orphans_recovered_total")
    runtime = Runtime(config_of(tmp_path / "a", metrics=True))
    runtime.open(UNFINISHED, now_us())
    runtime.stop()
    with open_log(tmp_path / "a") as log:
        recover(log, now_us(), observer_for(enabled=True))
    assert _value("auditlog_orphans_recovered_total") - orphans == 1


def test_the_leader_tells_of_the_log(tmp_path: Path) -> None:
    rounds = _value("auditlog_integrate_seconds_count")
    runtime = Runtime(config_of(tmp_path / "a", metrics=True))
    try:
        runtime._leader._look_at = 0.0
        _record(runtime, 4)

        def told() -> bool:
            runtime._leader._look_at = 0.0
            return _value("auditlog_tree_size") == 5

        wait_until(told, 10, "the size of the tree")
        assert _value("auditlog_integrate_seconds_count") > rounds
        assert (
            abs(_value("auditlog_checkpoint_timestamp_seconds") * 1e6 - now_us()) < 6e7
        )
        assert _value("auditlog_unanchored_leaves") == 5
    finally:
        runtime.stop()


def test_a_fault_of_the_client_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = observer_for(enabled=True)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for counter in ("_gaps", "_in_flight", "_decisions"):
        monkeypatch.setattr(type(getattr(observer, counter)), "labels", fail)
        for name in ("inc", "set"):
            monkeypatch.setattr(
                type(getattr(observer, counter)), name, fail, raising=False
            )
    observer.decisions([("/never-seen", None, "completed")])
    observer.gap("overload", 1)
    observer.in_flight(1)


LABELS = """
from prometheus_client import REGISTRY, generate_latest
from auditlog.metrics import observer_for
names = [(f"/generated/{n}", None, "completed") for n in range(1500)]
observer_for(enabled=True).decisions(names)
text = generate_latest(REGISTRY).decode()
totals = [t for t in text.splitlines() if t.startswith("auditlog_decisions_total")]
print(len(totals), totals[-1])
"""


def test_labels_are_bounded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LABELS],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    last = 'auditlog_decisions_total{model="other",outcome="other",route="other"} 500.0'
    assert done.stdout == f"1001 {last}\n"


# --- the log as a whole ---------------------------------------------------------------


def test_the_state_of_a_log_tells_what_waits_and_since_when(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 3)
    record_unsigned(tmp_path / "a")
    with open_log(tmp_path / "a") as log:
        size = log.store.size()
        now = now_us() / 1e6 + 100
        state = state_of(log.store, now)
        assert (state.tree_size, state.unwitnessed) == (size - 1, size)
        assert 99 < state.merge_delay < 160
        assert state.merge_delay <= state.unwitnessed_age
        assert state.cosignatures == {}
        cosigned = Cosignature(size - 1, "witness.example/w+00000000", 77, b"line\n")
        log.store.add_cosignatures([cosigned])
        state = state_of(log.store, now)
        assert state.unwitnessed == 1
        assert state.cosignatures == {"witness.example/w+00000000": 77}


def _scrape(directory: Path) -> httpx.Response:
    """Return what `auditlog serve` answers to Prometheus."""
    transport = httpx.ASGITransport(create_app(directory))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://a"
        ) as client:
            return await client.get("/metrics")

    return asyncio.run(ask())


def _attest(log: LogDirectory, size: int, anchor: str) -> None:
    row = AttestationRow(size, anchor, "ots", "final", b"{}", 0, now_us())
    Ledger(log.store, log.origin).keep(row, 1)


def test_the_lag_of_each_anchor_is_told(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 3)
    with open_log(tmp_path / "a") as log:
        size = log.store.size()
        _attest(log, size, "one")
        now = now_us() / 1e6 + 100
        state = state_of(log.store, now, ["one", "two"])
        assert state.anchors["one"] == AnchorLag(0, 0.0), "words on anchors are no lag"
        assert state.anchors["two"].entries == log.store.size() - 1
        assert 99 < state.anchors["two"].seconds < 160
        record_unsigned(tmp_path / "a")
        assert state_of(log.store, now, ["one"]).anchors["one"].entries == 1
    text, _ = exposition(state)
    assert b'auditlog_anchor_lag_entries{anchor="one"} 0.0\n' in text
    assert b'auditlog_anchor_lag_seconds{anchor="two"} 1' in text


def test_while_the_file_of_anchors_is_broken_their_lag_grows(tmp_path: Path) -> None:
    """Nobody is asked then: an alert must come, and no gauge may stand still."""
    fill_log(tmp_path / "a", 3)
    with open_log(tmp_path / "a") as log:
        _attest(log, log.store.size(), "one")
        record_unsigned(tmp_path / "a")
        log.paths.anchors.write_text("[[anchor]\n")
        assert watched_anchors(log.store, log.paths.anchors) == ["one"]
        log.paths.anchors.write_text('[[anchor]]\nkind = "ots"\nname = "two"\n')
        assert watched_anchors(log.store, log.paths.anchors) == ["two"]
        log.paths.anchors.write_text("[[anchor]\n")
    text = _scrape(tmp_path / "a").text
    assert 'auditlog_anchor_lag_entries{anchor="one"} 1.0\n' in text


def test_attempts_are_counted_by_anchor_and_state() -> None:
    labels = {"anchor": "tsa", "state": "failed"}
    before = _value("auditlog_anchor_attempts_total", **labels)
    observer_for(enabled=True).attested("tsa", "failed")
    assert _value("auditlog_anchor_attempts_total", **labels) == before + 1
    SILENT.attested("tsa", "failed")
    assert _value("auditlog_anchor_attempts_total", **labels) == before + 1


def test_an_empty_log_has_no_age() -> None:
    text, media_type = exposition(LogState(0, None, 0.0, 0, 0.0, {}))
    assert b"auditlog_tree_size 0.0\n" in text
    assert b"auditlog_build_info{version=" in text
    assert media_type.startswith("text/plain")


def test_serve_gives_the_log_s_metrics(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 3)
    with started("serve", "--dir", tmp_path / "a") as running:
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"))
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
    assert answer.status == 200
    with open_log(tmp_path / "a") as log:
        assert f"auditlog_tree_size {float(log.store.size())}\n" in text
    assert "auditlog_merge_delay_seconds 0.0\n" in text
    # The rest of this process is nobody's business.
    assert "python_info" not in text


def test_without_the_client_serve_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_log(tmp_path / "a", 1)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        open_log(tmp_path / "a") as log,
        pytest.raises(ConfigurationError, match="metrics need prometheus-client"),
    ):
        exposition(state_of(log.store, 0.0))
    answer = _scrape(tmp_path / "a")
    assert answer.status_code == 501
    assert "decision-auditlog[metrics]" in answer.json()["detail"]


# --- off, missing, several processes --------------------------------------------------

RECORD = """
import sys
{before}
from pathlib import Path
from auditlog.log.runtime import Runtime
from auditlog.models.identity import Model
from tests.log.builders import config_of, exchange
runtime = Runtime(config_of(Path(sys.argv[1]), metrics={metrics}))
one = exchange(0, model=Model("credit"))
one.sequence = runtime.open(one.id, one.time)
runtime.submit(one)
runtime.stop()
print("prometheus_client" in sys.modules)
"""
MISSING = 'sys.modules["prometheus_client"] = None'


def _run(
    directory: Path, *, metrics: bool, before: str = "", **env: str
) -> "subprocess.CompletedProcess[str]":
    program = RECORD.format(before=before, metrics=metrics)
    return subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        env=environment(PYTHONPATH=str(ROOT), **env),
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_option_nothing_is_imported(tmp_path: Path) -> None:
    done = _run(tmp_path / "a", metrics=False)
    assert done.stdout == "False\n", done.stderr
    assert observer_for(enabled=False) is SILENT
    assert not SILENT.watches


def test_without_the_client_the_option_stops_the_start(tmp_path: Path) -> None:
    done = _run(tmp_path / "a", metrics=True, before=MISSING)
    assert "ConfigurationError: metrics need prometheus-client" in done.stderr
    assert "pip install 'decision-auditlog[metrics]'" in done.stderr
    assert not (tmp_path / "a").exists()


def test_processes_add_up_in_the_client_s_multiprocess_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for _ in range(2):
        done = _run(tmp_path / "a", metrics=True, PROMETHEUS_MULTIPROC_DIR=str(shared))
        assert done.returncode == 0, done.stderr
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(shared))  # type: ignore[no-untyped-call]
    labels = {"route": "/score", "model": "credit", "outcome": "completed"}
    assert registry.get_sample_value("auditlog_decisions_total", labels) == 2


def test_a_store_that_cannot_be_read_is_said_by_the_api(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 1)
    with open_log(tmp_path / "a") as log:
        log.close()
        with pytest.raises(StorageError):
            state_of(log.store, 0.0)
