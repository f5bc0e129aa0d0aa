"""Processes that start, fork, are recycled, stopped and killed, under real servers.

Each test ends with reading the log: what was answered stands there once, and what was
not is named.
"""

import http.client
import shutil
import time
from pathlib import Path

import pytest

from tests.e2e.processes import Server, wait_until
from tests.e2e.servers import (
    SERVERS,
    Stream,
    outcomes,
    post,
    recovered,
    serve,
    states,
)
from tests.harness import check_whole_log

APP = "tests.e2e.outcomes_app:app"
ADDED = {"PLACEMENT": "added"}
GUNICORN = ["-m", "gunicorn", "--graceful-timeout", "5"]
ALONE = {name: command[:-2] for name, command in SERVERS.items()}
"""The servers as they are started by whoever does not know better."""


def _ask(server: Server, count: int) -> list[str]:
    """Ask until so many were answered; return the ids of their decisions."""
    ids: list[str] = []
    while len(ids) < count:
        # A worker that goes away takes connections along that it has not answered.
        try:
            status, id_ = post(server.port, "/completed")
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
            continue
        assert status == 200
        assert id_ is not None
        ids.append(id_)
    return ids


SEVERAL = {
    "uvicorn": ["-m", "uvicorn", "--workers", "2"],
    "hypercorn": ["-m", "hypercorn", "--workers", "2"],
    "granian": ["-m", "granian", "--interface", "asgi", "--workers", "2"],
    "gunicorn-asgi": [*GUNICORN, "--workers", "2", "-k", "asgi"],
    "gunicorn-uvicorn-preload": [
        *("-W", "ignore::DeprecationWarning"),
        *(*GUNICORN, "--workers", "2", "--preload"),
        *("-k", "uvicorn.workers.UvicornWorker"),
    ],
}


READY = {
    "uvicorn": "Application startup complete",
    "hypercorn": "Running on",
    "granian": "Started worker-",
}
"""What a worker says once it is up, where it says anything."""


@pytest.mark.parametrize("server", SEVERAL)
def test_several_workers_each_number_their_own_and_stop_cleanly(
    tmp_path: Path, server: str
) -> None:
    with serve(SEVERAL[server], APP, tmp_path, ADDED) as serving:
        ids = _ask(serving, 20)
        # One worker may have answered them all before the other was there.
        audit = tmp_path / "audit"
        wait_until(lambda: states(check_whole_log(audit))["start"] == 2, 60, "both")
        # Who is told to stop while it starts ends without a word.
        word, output = READY.get(server, ""), tmp_path / "output.txt"
        wait_until(lambda: output.read_text().count(word) >= 2, 60, "both are up")
    log = check_whole_log(tmp_path / "audit")
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 2, "stop": 2}


def test_workers_that_are_recycled_take_nothing_along(tmp_path: Path) -> None:
    command = ["-m", "uvicorn", "--workers", "2", "--limit-max-requests", "10"]
    with serve(command, APP, tmp_path, ADDED) as serving:
        ids = _ask(serving, 10)
        deadline = time.monotonic() + 60
        while states(check_whole_log(tmp_path / "audit"))["stop"] < 2:
            assert time.monotonic() < deadline, "no worker was recycled"
            ids += _ask(serving, 5)
        ids += _ask(serving, 5)
    log = check_whole_log(tmp_path / "audit")
    found = outcomes(log)
    assert {id_: found.get(id_) for id_ in ids} == dict.fromkeys(ids, "completed")
    said = states(log)
    assert said["start"] == said["stop"] > 2
    assert said["unclean-stop"] == 0


def test_a_reload_stops_one_process_and_starts_another(tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    shutil.copy(Path(__file__).with_name("outcomes_app.py"), service / "reloaded.py")
    command = ["-m", "uvicorn", "--reload", "--reload-dir", str(service)]
    command += ["--app-dir", str(service)]
    with serve(command, "reloaded:app", tmp_path, ADDED) as serving:
        ids = _ask(serving, 3)
        (service / "reloaded.py").touch()
        wait_until(lambda: _stopped(tmp_path), 30, "a reload")
        ids += _ask(serving, 3)
    log = check_whole_log(tmp_path / "audit")
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 2, "stop": 2}


def _stopped(directory: Path) -> bool:
    return states(check_whole_log(directory / "audit"))["stop"] > 0


@pytest.mark.parametrize("server", SERVERS)
def test_a_stream_goes_on_after_sigterm_where_no_time_was_set(
    tmp_path: Path, server: str
) -> None:
    with serve(ALONE[server], APP, tmp_path, ADDED) as serving:
        stream = Stream(serving.port, "/endless")
        stream.read_more()
        serving.terminate()
        stream.read_more(10)
        stream.close()
        serving.wait()
    log = check_whole_log(tmp_path / "audit")
    ends = {"client_disconnected"}
    if server == "granian":
        # It may begin to stop when the connection ends, before it tells the handler.
        ends.add("interrupted")
    assert outcomes(log)[stream.id] in ends
    assert len(log.decisions) == 1
    assert states(log) == {"start": 1, "stop": 1}


@pytest.mark.parametrize("worker", ["asgi", "uvicorn.workers.UvicornWorker"])
def test_a_stream_that_outlives_the_patience_of_gunicorn(
    tmp_path: Path, worker: str
) -> None:
    command = ["-W", "ignore::DeprecationWarning", "-m", "gunicorn", "-k", worker]
    command += ["--graceful-timeout", "1"]
    with serve(command, APP, tmp_path, ADDED) as serving:
        ids = _ask(serving, 2)
        stream = Stream(serving.port, "/endless")
        stream.read_more()
        serving.terminate()
        serving.wait()
        # Its worker was killed, and may still be dying.
        serving.kill()
        stream.close()
    log = recovered(tmp_path)
    expected = dict.fromkeys(ids, "completed") | {stream.id: "interrupted"}
    assert outcomes(log) == expected
    assert states(log) == {"start": 2, "stop": 1, "unclean-stop": 1}


@pytest.mark.parametrize("server", SERVERS)
def test_a_kill_during_a_stream_is_admitted_by_the_next_start(
    tmp_path: Path, server: str
) -> None:
    with serve(SERVERS[server], APP, tmp_path, ADDED) as serving:
        ids = _ask(serving, 2)
        stream = Stream(serving.port, "/endless")
        stream.read_more()
        wait_until(lambda: _recorded(tmp_path, ids), 10, "what was answered")
        serving.kill()
        stream.close()
    log = recovered(tmp_path)
    expected = dict.fromkeys(ids, "completed") | {stream.id: "interrupted"}
    assert outcomes(log) == expected
    # The one that was killed; the one that admitted it has stopped.
    assert states(log) == {"start": 2, "stop": 1, "unclean-stop": 1}


def _recorded(directory: Path, ids: list[str]) -> bool:
    return set(ids) <= outcomes(check_whole_log(directory / "audit")).keys()


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "uvicorn", "--lifespan", "off"],
        ["-m", "granian", "--interface", "asginl"],
        [*GUNICORN, "-k", "asgi", "--asgi-lifespan", "off"],
    ],
    ids=["uvicorn", "granian", "gunicorn"],
)
def test_without_lifespan_the_first_request_starts_and_the_next_start_closes(
    tmp_path: Path, command: list[str]
) -> None:
    with serve(command, APP, tmp_path, ADDED) as serving:
        ids = _ask(serving, 3)
        wait_until(lambda: _recorded(tmp_path, ids), 10, "what was answered")
    log = recovered(tmp_path)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    # Nobody told it to stop, so that it cannot say that it issued no more numbers.
    assert states(log) == {"start": 2, "stop": 1, "unclean-stop": 1}
