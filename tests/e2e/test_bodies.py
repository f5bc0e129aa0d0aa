"""Bodies through a real server, and what can be shown of them afterwards, offline."""

import base64
import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.pieces import blocks
from auditlog.core.record import Entry, parse_entry
from auditlog.log.content import Content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.command import auditlog
from tests.e2e.processes import Server, free_port, wait_until

JSON = b'{"age": 41, "name": "Ada"}'
LARGE = bytes(range(251)) * 9000
"""2.2 million bytes, 35 chunks."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A running service and the directory of its log."""
    directory, port = tmp_path_factory.mktemp("bodies"), free_port()
    command = ["-m", "uvicorn", "tests.e2e.large_app:app", "--port", str(port)]
    env = {
        "AUDITLOG_DIR": str(directory / "audit"),
        "AUDITLOG_MAX_STORED_BYTES": str(4 << 20),
    }
    with Server(command, port, directory / "server.log", env=env) as server:
        yield server, directory / "audit"


def post(server: Server, path: str, body: Any, **headers: str) -> tuple[str, bytes]:
    """Return the decision's id, and the answer as it crossed the wire."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    ) as connection:
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        return answer.headers["decision-id"], answer.read()


def recorded(directory: Path, id_: str) -> tuple[Entry, Content]:
    with open_log(directory) as log:
        reader = Reader(log)
        wait_until(lambda: reader.decision(id_).level == "included", 60, "included")
        entry = reader.decision(id_).entry
        assert entry is not None
        return parse_entry(entry), reader.content(id_)


def shown(directory: Path, id_: str, tmp_path: Path, *paths: str) -> dict[str, Any]:
    """Disclose paths in a receipt, verify it offline, and return the verdict."""
    recorded(directory, id_)
    file = tmp_path / "r.receipt.json"
    fields = [word for path in paths for word in ("--field", path)]
    verb = ["disclose", *fields, "--recipient", "a test"] if paths else ["receipt"]
    done = auditlog(*verb, id_, "--dir", directory, "-o", file)
    assert done.status == 0, done
    verified = auditlog("verify", file, "--policy", directory / "policy", "--json")
    assert verified.status == 0, verified
    return verified.document()


def opened(verdict: dict[str, Any]) -> dict[str, bytes]:
    """Return what a verdict says to be disclosed."""
    return {one["path"]: base64.b64decode(one["value"]) for one in verdict["disclosed"]}


def test_one_chunk_of_a_large_upload_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    id_, _ = post(server, "/predict", LARGE, content_type="image/png")
    entry, content = recorded(directory, id_)
    assert entry.data["request"]["split"] == "chunks"
    assert content.request == LARGE
    file = tmp_path / "r.receipt.json"
    told = ("--field", "request#34", "--recipient", "a test")
    auditlog("disclose", id_, "--dir", directory, "-o", file, *told)
    assert len(file.read_bytes()) < 60_000, "the other chunks are not in it"
    verified = auditlog("verify", file, "--policy", directory / "policy")
    assert verified.status == 0, verified
    receipt = json.loads(file.read_text())
    (disclosed,) = receipt["disclosures"]
    assert disclosed["path"] == "request#34"
    # Another value under the same path is refused.
    disclosed["value"] = disclosed["value"][:-8] + "AAAAAAA="
    file.write_text(json.dumps(receipt))
    assert auditlog("verify", file, "--policy", directory / "policy").status in {10, 16}


def test_one_event_of_a_long_stream_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    id_, answer = post(server, "/stream?events=700", b"")
    found = blocks(answer)
    assert (len(answer) > 1 << 20, len(found)) == (True, 1400)
    entry, content = recorded(directory, id_)
    assert (entry.data["response"]["split"], content.response) == ("sse", answer)
    verdict = shown(directory, id_, tmp_path, "response#1201")
    assert opened(verdict) == {"response#1201": b"data: 600\r\n\r\n"}
    verdict = shown(directory, id_, tmp_path, "response", "response#2")
    details = [check["detail"] for check in verdict["checks"]]
    assert "1 of 1400, as they stand in the response" in details


def test_all_of_a_large_upload_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    id_, _ = post(server, "/predict", LARGE, content_type="image/png")
    verdict = shown(directory, id_, tmp_path, "request", "request#0", "request#34")
    details = [check["detail"] for check in verdict["checks"]]
    assert "2 of 35, as they stand in the request" in details


def test_a_member_of_a_compressed_answer_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    id_, answer = post(server, "/predict", LARGE, accept_encoding="gzip")
    assert gzip.decompress(answer) == b'{"score":0.87,"size":2259000}'
    _, content = recorded(directory, id_)
    assert content.response == answer
    verdict = shown(directory, id_, tmp_path, "response/score")
    assert opened(verdict) == {"response/score": b"0.87"}
    text = auditlog("show", id_, "--content", "--dir", directory).out
    assert '--- response:decoded\n{"score":0.87,"size":2259000}\n' in text


def test_a_member_of_a_compressed_request_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    coded = {"content_type": "application/json", "content_encoding": "gzip"}
    id_, _ = post(server, "/predict", gzip.compress(JSON), **coded)
    entry, content = recorded(directory, id_)
    assert content.decoded["request"].value == JSON
    verdict = shown(directory, id_, tmp_path, "request/name")
    assert opened(verdict) == {"request/name": b'"Ada"'}
    assert "gzip" not in json.dumps(entry.data)


def test_one_item_of_a_batch_of_4096_is_disclosed_and_verified_offline(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, directory = served
    batch = json.dumps({"instances": [[at, at / 8, 1] for at in range(4096)]}).encode()
    kind = "application/json"
    id_, answer = post(server, "/v1/models/credit:predict", batch, content_type=kind)
    assert len(json.loads(answer)["predictions"]) == 4096
    item = "/instances/2026", "/predictions/2026"
    paths = (f"request{item[0]}", f"response{item[1]}")
    entry, content = recorded(directory, id_)
    assert (entry.data["outcome"], entry.data["response"]["split"]) == (
        "completed",
        "json",
    )
    assert json.loads(content.context["protocol"])["items"] == 4096
    verdict = shown(directory, id_, tmp_path, *paths)
    assert opened(verdict) == {paths[0]: b"[2026, 253.25, 1]", paths[1]: b"2280.25"}


def test_an_upload_sent_in_chunks_is_one_body(served: tuple[Server, Path]) -> None:
    server, directory = served
    parts = (LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000))
    id_, _ = post(server, "/predict", parts, content_type="image/png")
    assert recorded(directory, id_)[1].request == LARGE


def test_a_form_is_recorded_as_it_was_sent(served: tuple[Server, Path]) -> None:
    server, directory = served
    boundary = "CANARY-boundary"
    body = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; '
        'filename="cat.png"\r\n\r\n'
    ).encode()
    body += LARGE[:1000] + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    id_, _ = post(server, "/predict", body, content_type=kind)
    entry, content = recorded(directory, id_)
    assert content.request == body
    assert entry.data["request"] == {
        "mediaType": "multipart/form-data",
        "split": "none",
        "state": "complete",
    }


def ask_to_continue(port: int, path: str) -> tuple[socket.socket, bytes]:
    """Announce a body, and return what the server answers before it is sent."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        f"content-type: application/json\r\ncontent-length: {len(JSON)}\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection, connection.recv(4096)


def test_a_client_that_asks_before_it_sends_is_refused_without_sending(
    served: tuple[Server, Path],
) -> None:
    server, directory = served
    connection, answer = ask_to_continue(server.port, "/forbidden")
    connection.close()
    assert answer.startswith(b"HTTP/1.1 403 ")
    entry, content = recorded(directory, _id_in(answer))
    assert (entry.data["outcome"], entry.data["request"]["state"]) == (
        "rejected",
        "unread",
    )
    assert content.request == b""


def test_a_client_that_asks_before_it_sends_is_told_when_somebody_reads(
    served: tuple[Server, Path],
) -> None:
    server, directory = served
    connection, answer = ask_to_continue(server.port, "/predict")
    with connection:
        assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(JSON)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 ")
    entry, content = recorded(directory, _id_in(answer))
    assert entry.data["request"]["state"] == "complete"
    assert content.request == JSON


def _id_in(answer: bytes) -> str:
    lines = answer.decode("latin-1").lower().split("\r\n")
    return next(line[13:] for line in lines if line.startswith("decision-id: "))
