"""Five frameworks on a real server: what the client was told is what the log holds."""

import http.client
import json
from pathlib import Path

import pytest

from auditlog.core.record import DECISION, parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.e2e.processes import Server, free_port
from tests.web.framework_apps import FRAMEWORKS, TEMPLATES


def ask(port: int, path: str, body: bytes) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheader("decision-id"), content


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_decisions_of_every_framework_can_be_proved(
    framework: str, tmp_path: Path
) -> None:
    port, directory = free_port(), tmp_path / "audit"
    env = {
        "FRAMEWORK": framework,
        "AUDITLOG_DIR": str(directory),
        "AUDITLOG_ORIGIN": "test.example/frameworks",
        "AUDITLOG_DURABILITY": "sync",
    }
    command = ["-m", "uvicorn", "tests.e2e.frameworks_app:app", "--port", str(port)]
    with Server(command, port, tmp_path / "server.log", env):
        told = [
            ask(port, f"{prefix}/score/{key}", b'{"income":41000}')
            for key, prefix in enumerate(("", "/api", ""))
        ]
        failed = ask(port, "/boom", b"{}")
    assert [status for status, _, _ in told] == [200] * 3
    assert failed[0] == 500
    with open_log(directory, read_only=True) as log:
        report = check_log(log)
        assert (report.problems, report.unchecked) == ((), ())
        reader = Reader(log)
        policy = log.paths.policy.read_text()
        for key, (_, id_, content) in enumerate(told):
            assert id_ is not None
            assert id_ == json.loads(content)["decision"]
            verdict = verify_receipt(
                reader.receipt(id_, disclose=["response", "context/outcome"]), policy
            )
            assert dict(verdict.disclosed)["response"] == content
            assert json.loads(content)["key"] == key
        raw = log.store.read(0, log.store.size())
    entries = [parse_entry(one) for one in raw]
    # Also where the framework has no lifespan of its own.
    assert entries[-1].data["state"] == "stop"
    data = [entry.data for entry in entries if entry.type == DECISION]
    template = TEMPLATES[framework]
    assert sorted((one["http.route"], one["outcome"]) for one in data) == sorted(
        [
            *((template, "completed"), (template, "completed")),
            *((f"/api{template}", "completed"), ("/boom", "error")),
        ]
    )
