import http.server
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_service.client import http as ask
from demo_service.processes import (
    INTERRUPTIONS,
    DemoError,
    Processes,
    environment,
    free_port,
    run,
    wait_until,
)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(logs: Path) -> int:
    return int((logs / "child.log").read_text())


def start(processes: Processes, logs: Path, code: str) -> None:
    processes.start(
        "child", ["-c", f"import os; print(os.getpid(), flush=True); {code}"]
    )
    wait_until("the child", lambda: (logs / "child.log").read_bytes().strip(), 10)


def test_leaving_the_block_ends_the_programs_however_it_is_left(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Processes(tmp_path) as processes:
            start(processes, tmp_path, "import time; time.sleep(60)")
            assert is_alive(pid_of(tmp_path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_alive(pid_of(tmp_path))


def test_an_interruption_waits_until_a_new_program_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = subprocess.Popen
    children = []

    def interrupted(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        child = begin(*arguments, **options)
        children.append(child)
        signal.raise_signal(signal.SIGINT)
        return child

    def started() -> None:
        with Processes(tmp_path) as processes:
            monkeypatch.setattr(subprocess, "Popen", interrupted)
            processes.start("child", ["-c", "import time; time.sleep(60)"])

    before = [signal.getsignal(number) for number in INTERRUPTIONS]
    with pytest.raises(KeyboardInterrupt):
        started()
    assert [child.poll() for child in children] == [-signal.SIGTERM]
    assert [signal.getsignal(number) for number in INTERRUPTIONS] == before


def test_stop_ends_one_program(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        start(processes, tmp_path, "import time; time.sleep(60)")
        processes.stop("child")
        assert not is_alive(pid_of(tmp_path))


def test_a_program_that_died_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("child", ["-c", "raise SystemExit('no disk')"])
        with pytest.raises(DemoError, match="child ended with status 1:\nno disk"):
            processes.wait_until("good news", lambda: False, 10)


def test_waiting_has_an_end() -> None:
    started = time.monotonic()
    with pytest.raises(DemoError, match="waited 0 s for good news, in vain"):
        wait_until("good news", lambda: False, 0.2)
    assert time.monotonic() - started < 5


def test_waiting_gives_the_first_true_result() -> None:
    results = iter([None, "", "here", "later"])
    assert wait_until("it", lambda: next(results), 5) == "here"


def test_run_returns_what_was_printed() -> None:
    assert run(["-c", "print(2 + 2)"]) == "4\n"


def test_run_insists_on_the_status() -> None:
    assert run(["-c", "raise SystemExit(10)"], status=10) == ""
    with pytest.raises(DemoError, match="expected status 10, got 0"):
        run(["-c", ""], status=10)


def test_settings_of_another_log_do_not_reach_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUDITLOG_DIR", "elsewhere")
    monkeypatch.setenv("AUDITLOG_DEPTH", "3")
    env = environment({"AUDITLOG_DEPTH": "2"})
    assert [name for name in env if name.startswith("AUDITLOG_")] == ["AUDITLOG_DEPTH"]
    assert env["AUDITLOG_DEPTH"] == "2"


class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(409)
        self.send_header("X-Token", self.headers.get("Authorization", "none"))
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", free_port()), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_any_status_is_a_reply(echo: str) -> None:
    reply = ask(echo, {"size": 3}, token="alt_x")
    assert reply.status == 409
    assert reply.headers["x-token"] == "Bearer alt_x"
    assert reply.json() == {"size": 3}
    with pytest.raises(
        DemoError, match=r'expected HTTP status 200, got 409: {"size": 3}'
    ):
        reply.expect(200)


def test_bytes_are_posted_as_they_are(echo: str) -> None:
    reply = ask(echo, b"old 0\n", media_type="text/plain")
    assert reply.text == "old 0\n"
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["x-token"] == "none"


def test_where_nobody_listens_there_is_an_error() -> None:
    with pytest.raises(OSError, match="refused"):
        ask(f"http://127.0.0.1:{free_port()}/")
