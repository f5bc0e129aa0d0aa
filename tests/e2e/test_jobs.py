"""Scripts, workers, pools and notebooks as real processes: ended well, and killed.

Each runs a program that stands in a test as somebody would write it.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from auditlog.cli import main
from auditlog.core.record import format_id
from auditlog.log.check import CheckReport, check_log
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.log.recovery import recover
from auditlog.storage import Query
from tests.e2e.processes import ROOT, Server, free_port
from tests.e2e.servers import ORIGIN, outcomes, post, states
from tests.harness import check_whole_log
from tests.log.builders import now_us


def _environment(directory: Path) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("AUDITLOG_")},
        "AUDITLOG_DIR": str(directory),
        "AUDITLOG_ORIGIN": ORIGIN,
        "PYTHONPATH": str(ROOT),
    }


def _run(directory: Path, program: str, status: int = 0) -> list[str]:
    """Run a program to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=_environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout.split()


@contextmanager
def _running(directory: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=_environment(directory),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _report(directory: Path) -> CheckReport:
    with open_log(directory, read_only=True) as log:
        return check_log(log)


def _recovered(directory: Path) -> None:
    """Do what the next start does."""
    with open_log(directory) as log:
        recover(log, now_us())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


SCRIPT = """
import auditlog
for number in range(3):
    print(auditlog.record("nightly", input={"row": number}, output=[0.5]))
with auditlog.decision("last", input="x") as decision:
    print(decision.id)
print(auditlog.record("unwaited", input=1, wait=False))
"""


def test_a_script_leaves_a_log_that_is_whole_signed_and_closed(directory: Path) -> None:
    ids = _run(directory, SCRIPT)
    log = check_whole_log(directory)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 1, "stop": 1}
    assert log.checkpoints[-1][0] == len(log.entries)
    assert list((directory / "journal").glob("*.journal")) == []
    assert _report(directory).problems == ()


def test_a_script_that_fails_has_recorded_why_it_did(directory: Path) -> None:
    program = """
import auditlog
with auditlog.decision("job", input=1) as decision:
    print(decision.id, flush=True)
    raise ValueError("on purpose")
"""
    (id_,) = _run(directory, program, status=1)
    log = check_whole_log(directory)
    assert outcomes(log) == {id_: "error"}
    assert states(log) == {"start": 1, "stop": 1}


def test_without_a_clean_end_the_next_start_admits_it(directory: Path) -> None:
    """What runs at exit is no promise: what was told is there without it."""
    program = """
import auditlog, os
for number in range(3):
    print(auditlog.record("nightly", input=number), flush=True)
os._exit(0)
"""
    ids = _run(directory, program)
    _recovered(directory)
    log = check_whole_log(directory)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 1, "unclean-stop": 1}
    assert _report(directory).problems == ()


def test_who_is_killed_inside_a_block_is_admitted_under_its_id(directory: Path) -> None:
    program = """
import auditlog, threading
with auditlog.decision("job", input=1) as decision:
    print(decision.id, auditlog.record("inner", input=2), flush=True)
    threading.Event().wait()
"""
    with _running(directory, program) as process:
        assert process.stdout is not None
        outer, inner = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with open_log(directory, read_only=True) as log:
        assert Reader(log).decision(outer).level == "opened"
    _recovered(directory)
    assert outcomes(check_whole_log(directory)) == {
        inner: "completed",
        outer: "interrupted",
    }


def test_an_interrupt_from_the_keyboard_is_recorded(directory: Path) -> None:
    program = """
import auditlog, threading
with auditlog.decision("notebook cell", input=1) as decision:
    print(decision.id, flush=True)
    threading.Event().wait()
"""
    with _running(directory, program) as process:
        assert process.stdout is not None
        id_ = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        process.wait(20)
    log = check_whole_log(directory)
    assert outcomes(log) == {id_: "interrupted"}
    assert states(log) == {"start": 1, "stop": 1}


POOL = """
import auditlog, multiprocessing

def work(number):
    with auditlog.decision("work", input=number, caused_by=ASKED) as decision:
        decision.set_output(number * 2)
    return decision.id

if __name__ == "__main__":
    ASKED = auditlog.record("enqueue", input="all")
    print(ASKED)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        print(*pool.map(work, range(8), chunksize=1))
        pool.close()
        pool.join()
"""


def test_workers_of_a_fork_pool_record_each_for_itself(directory: Path) -> None:
    ids = _run(directory, POOL)
    log = check_whole_log(directory)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    emitters = {one["data"]["emitter"] for one in log.decisions}
    assert 2 <= len(emitters) <= 3
    assert states(log) == {"start": len(emitters), "stop": len(emitters)}
    assert _report(directory).problems == ()
    with open_log(directory, read_only=True) as opened:
        content = Reader(opened).content(ids[1])
    annotations = json.loads(content.context["annotations"])
    assert annotations == {"auditlog.caused_by": {"decision": ids[0]}}


def test_a_child_made_inside_a_block_does_not_record_it_again(directory: Path) -> None:
    program = """
import auditlog, os, sys
with auditlog.decision("job", input=1) as decision:
    print(decision.id, flush=True)
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
"""
    (id_,) = _run(directory, program)
    log = check_whole_log(directory)
    assert outcomes(log) == {id_: "completed"}
    assert states(log) == {"start": 1, "stop": 1}


THREADS = """
import auditlog
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(lambda n: auditlog.record("work", input=n), range(20)))
"""


def test_workers_of_a_thread_pool_share_what_records(directory: Path) -> None:
    ids = _run(directory, THREADS)
    log = check_whole_log(directory)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 1, "stop": 1}


def test_a_job_records_beside_a_service_and_both_are_amended(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the service goes, and what comes true later is said all the same."""
    amend = partial(_command, capsys, "amend", "--dir", str(directory))
    environment, port = _environment(directory), free_port()
    command = ["-m", "uvicorn", "tests.e2e.echo_app:app", "--port", str(port)]
    with Server(command, port, tmp_path / "out", environment) as server:
        answer = _ask(server.port)
        program = f"""
import auditlog
job = auditlog.record("job", input=1)
print(job, auditlog.amend({answer!r}, "human_review", by="Kim"))
print(auditlog.amend(job, "correction", reason="wrong row"))
"""
        job, review, correction = _run(directory, program)
        appeal = amend(answer, "--kind", "appeal", "--by", "C-1042")
    outcome = amend(answer, "--kind", "outcome", "--label", "repaid")
    _command(capsys, "checkpoint", "--dir", str(directory))
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        told = {id_: reader.decision(id_).amendments for id_ in (answer, job)}
        assert check_log(log).problems == ()
        assert reader.decision(outcome).level == "included"
    found = {
        id_: [json.loads(entry)["id"] for entry in entries]
        for id_, entries in told.items()
    }
    assert found == {answer: [review, appeal, outcome], job: [correction]}
    check_whole_log(directory)


def _ask(port: int, path: str = "/score/loan") -> str:
    status, id_ = post(port, path)
    assert (status, id_ is None) == (200, False)
    return str(id_)


def _command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.strip()


def test_what_a_request_caused_names_it(directory: Path, tmp_path: Path) -> None:
    """A handler that records a decision of its own inside of its request's."""
    source = """
import auditlog
from fastapi import FastAPI
app = FastAPI()
app.add_middleware(auditlog.AuditMiddleware)

@app.get("/")
def ready() -> None: ...

@app.post("/score/loan")
def score() -> dict[str, str]:
    return {"inner": auditlog.record("rules", input=1, output="pass")}

@app.post("/async")
async def later() -> dict[str, str]:
    async with auditlog.decision("rules", input=1) as decision:
        decision.set_output("pass")
    return {"inner": decision.id}
"""
    (tmp_path / "nested_app.py").write_text(source)
    port = free_port()
    environment = _environment(directory)
    environment["PYTHONPATH"] += f":{tmp_path}"
    command = ["-m", "uvicorn", "nested_app:app", "--port", str(port)]
    with Server(command, port, tmp_path / "out", environment):
        outer = [_ask(port, path) for path in ("/score/loan", "/async")]
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        rows = reader.find(Query(route="rules"))
        inner = [format_id(row.id) for row in reversed(rows)]
        causes = [_cause(reader, id_) for id_ in inner]
        answers = [json.loads(reader.content(id_).response)["inner"] for id_ in outer]
        assert check_log(log).problems == ()
    assert (answers, causes) == (inner, outer)


def _cause(reader: Reader, id_: str) -> object:
    annotations = json.loads(reader.content(id_).context["annotations"])
    return annotations["auditlog.caused_by"]["decision"]


def test_what_the_page_shows_works_as_it_stands(directory: Path) -> None:
    """Each block of Python in the documentation, run by somebody with a model."""
    page = (ROOT / "auditlog" / "docs" / "beyond-http.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    program = f"""
row, text = {{"age": 41}}, "help"
class Answer:
    label, score = "urgent", 0.9
    def as_dict(self): return {{"label": self.label}}
class model:
    predict = staticmethod(lambda text: Answer())
{"".join(blocks)}
print(id_, decision.id)
"""
    first, second = _run(directory, program)
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        kinds = [
            json.loads(entry)["data"]["kind"]
            for entry in reader.decision(first).amendments
        ]
        assert kinds == ["human_review", "outcome"]
        assert reader.content(second).response == b'{"label":"urgent"}'
