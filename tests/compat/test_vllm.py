"""vLLM: what it asks of a ``--middleware``, as its page says to name one."""

import re
from pathlib import Path

import httpx

from tests.compat.serving import ORIGIN, Answer, lines_of, proved
from tests.e2e.processes import Server

KEYS = {"authorization": "Bearer KEY", "accept-encoding": "identity"}


def post(client: httpx.Client, path: str, **more: str) -> Answer:
    response = client.post(path, json={"prompt": "one two"}, headers=more)
    id_ = response.headers.get("decision-id", "")
    return Answer(response.status_code, id_, response.request.read(), response.content)


def test_a_class_named_on_the_command_line_records_by_its_environment(
    tmp_path: Path,
) -> None:
    lines = lines_of("vLLM")
    (excluded,) = re.findall(r'export AUDITLOG_EXCLUDE="(.*)"', lines.command)
    named = re.findall(r"--middleware (\S+)", lines.command)
    env = {
        "MIDDLEWARE": " ".join(named),
        "AUDITLOG_EXCLUDE": excluded,
        "AUDITLOG_DIR": str(tmp_path / "audit"),
        "AUDITLOG_ORIGIN": ORIGIN,
    }
    app = ["--factory", "tests.compat.vllm_shaped:build", "--port", str(lines.port)]
    with (
        Server(["-m", "uvicorn", *app], lines.port, tmp_path / "output.txt", env),
        httpx.Client(base_url=f"http://127.0.0.1:{lines.port}") as client,
    ):
        streamed = post(client, "/v1/completions", **KEYS)
        keyless = post(client, "/v1/completions")
        others = [post(client, path, **KEYS) for path in ("/tokenize", "/ping")]
    assert streamed.got.endswith(b"data: [DONE]\n\n")
    assert (keyless.status, [one.id for one in others]) == (401, ["", ""])
    decisions = proved(tmp_path / "audit", [streamed, keyless])
    assert {one["route"] for one in decisions} == {"/v1/completions"}
    assert [one["outcome"] for one in decisions] == ["completed", "rejected"]
