"""Three rules on a real server: whatever is kept is opened, and nothing is found.

Every exchange holds canaries of a name, a pattern, a place and a callable. All content
that the keys of the log open is searched for them, and every file as it is.
"""

import base64
import gzip
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from auditlog.core.pieces import blocks, messages
from auditlog.log.check import check_log
from auditlog.log.content import Content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.command import auditlog
from tests.e2e.processes import Server, free_port, wait_until

EMAIL, SSN, NAME, CODE = "jane.doe@canary.example", "078-05-1120", "Zebedee", "kumquat"
CANARIES = (EMAIL, "jane.doe", "canary", SSN, NAME, CODE)
MULTIPART = "multipart/form-data; boundary=xyz"
FORM = "application/x-www-form-urlencoded"
SAID = {"ssn": SSN, "applicant": {"name": NAME}, "note": f"{EMAIL} {CODE}", "age": 41}


class Asked(NamedTuple):
    """One exchange, and what is kept of it."""

    id: str
    content: Content

    def stored(self, side: str) -> bytes:
        return self.content.body(side).value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    directory, port = tmp_path_factory.mktemp("redaction"), free_port()
    command = ["-m", "uvicorn", "tests.e2e.redaction_app:app", "--port", str(port)]
    env = {
        "AUDITLOG_DIR": str(directory / "audit"),
        "AUDITLOG_CHECKPOINT_INTERVAL": "0.05",
        "AUDITLOG_MAX_STORED_BYTES": "60000",
        "AUDITLOG_REDACT_KEYS": "ssn",
        "AUDITLOG_REDACT_FIELDS": "/applicant/name,response/answer/name",
        "AUDITLOG_REDACT_PATTERNS": "email",
    }
    with Server(command, port, directory / "server.log", env=env) as running:
        yield running, directory / "audit"


def post(server: Server, path: str, body: bytes, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    ) as connection:
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        answer.read()
        id_ = answer.headers["decision-id"]
        assert id_ is not None
        return id_


def kept(directory: Path, id_: str) -> Asked:
    with open_log(directory) as log:
        reader = Reader(log)
        wait_until(lambda: reader.decision(id_).level == "included", 60, "included")
        return Asked(id_, reader.content(id_))


def everything(content: Content) -> bytes:
    """All that is sealed of a decision, as it is before it is compressed."""
    values = [part.value for part in content.parts]
    return b"\n".join([*values, repr(content.salts).encode()])


def assert_clean(data: bytes, *but: str) -> None:
    """Assert that no canary is there, in clear or as JSON, a URL or base64 write it."""
    for canary in set(CANARIES) - set(but):
        raw = canary.encode()
        assert raw not in data, canary
        assert raw.replace(b"@", b"%40") not in data, canary
        # Without what depends on the place in front and behind.
        # Three by three, for the rest depends on what follows. The fewer, the more
        # often they come up in ciphertext by chance: so all that there are.
        whole = raw[: len(raw) // 3 * 3]
        assert base64.b64encode(whole) not in data, canary


def multipart(**parts: str) -> bytes:
    found = "".join(
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    image = (
        '--xyz\r\nContent-Disposition: form-data; name="f"; filename="jane.doe@canary'
        '.example.png"\r\nContent-Type: image/png\r\n\r\n\x00Zebedee\r\n--xyz--\r\n'
    )
    return (found + image).encode()


def test_json_keeps_its_shape_and_what_was_not_touched(
    server: tuple[Server, Path],
) -> None:
    body = json.dumps(SAID).encode()
    asked = kept(
        server[1], post(server[0], "/echo", body, content_type="application/json")
    )
    assert json.loads(asked.stored("request")) == {
        "ssn": "[redacted]",
        "applicant": {"name": "[redacted]"},
        "note": "[redacted] (fruit)",
        "age": 41,
    }
    assert json.loads(asked.stored("response")) == {
        "ssn": "[redacted]",
        "answer": {"name": "[redacted]", "n": 1},
    }
    assert_clean(everything(asked.content))
    said = json.loads(asked.content.context["redaction"])
    assert {"request", "response", "annotations", "user"} <= said.keys()


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"ssn=078-05-1120&note=jane.doe%40canary.example+kumquat", FORM),
        (multipart(ssn=SSN, note=f"{EMAIL} {CODE}"), MULTIPART),
        (f"{EMAIL} says {CODE}".encode(), "text/plain"),
        (b"\x89PNG " + EMAIL.encode(), "image/png"),
        (json.dumps({"calls": json.dumps(SAID)}).encode(), "application/json"),
        (json.dumps(SAID).encode(), FORM),
        (b'{"ssn": "078-05-1120", "cut": "', "application/json"),
        (f"data: {EMAIL}\n\ndata: {CODE}\n\n".encode(), "text/event-stream"),
        ("\n".join([json.dumps(SAID)] * 3).encode(), "application/x-ndjson"),
    ],
)
def test_other_kinds_hold_nothing_that_must_not_be_kept(
    server: tuple[Server, Path], body: bytes, media_type: str
) -> None:
    path = "/echo?mail=jane.doe%40canary.example&ssn=078-05-1120&q=kumquat"
    asked = kept(server[1], post(server[0], path, body, content_type=media_type))
    # In a text of JSON within another, places are other ones.
    assert_clean(everything(asked.content), *([NAME] if b"calls" in body else []))


def test_what_was_compressed_is_redacted_as_it_was_before(
    server: tuple[Server, Path],
) -> None:
    body = gzip.compress(json.dumps(SAID).encode())
    headers = {"content_type": "application/json", "content_encoding": "gzip"}
    asked = kept(server[1], post(server[0], "/echo", body, **headers))
    assert json.loads(asked.stored("request"))["age"] == 41
    assert_clean(everything(asked.content))


def test_what_a_model_writes_in_many_events_is_not_kept(
    server: tuple[Server, Path],
) -> None:
    asked = kept(server[1], post(server[0], "/stream", b""))
    found = blocks(asked.stored("response"))
    assert len(found) == 5
    deltas = [json.loads(one[6:])["choices"][0]["delta"] for one in found[:-1]]
    assert "".join(one["content"] for one in deltas) == "Dear [redacted], ok"
    assert found[-1] == b"data: [DONE]\n\n"
    assert_clean(everything(asked.content))


@pytest.mark.parametrize("cut", range(-12, 60, 9))
def test_wherever_the_cap_cuts_nothing_is_kept(
    server: tuple[Server, Path], cut: int
) -> None:
    """60,000 bytes are kept: the canaries stand around there."""
    tail = json.dumps({"note": f"to {EMAIL} or {CODE}", "ssn": SSN})[1:]
    head = '{"pad": "'
    pad = "x " * ((60_000 - len(head) - cut) // 2)
    body = f'{head}{pad}", {tail}'.encode() + b" " * 2000
    asked = kept(
        server[1], post(server[0], "/echo", body, content_type="application/json")
    )
    assert asked.content.is_capped("request")
    assert len(asked.stored("request")) > 50_000
    assert_clean(everything(asked.content))


def test_an_error_keeps_nothing_either(server: tuple[Server, Path]) -> None:
    body = json.dumps(SAID).encode()
    with closing(
        http.client.HTTPConnection("127.0.0.1", server[0].port, timeout=30)
    ) as connection:
        connection.request("POST", "/fail", body, {"content-type": "application/json"})
        assert connection.getresponse().status == 500
    found = partial(auditlog, "find", "--dir", server[1], "--route", "/fail", "--json")
    wait_until(lambda: bool(found().document()["decisions"]), 60, "in the log")
    asked = kept(server[1], found().document()["decisions"][0]["id"])
    assert json.loads(asked.stored("request"))["age"] == 41
    assert_clean(everything(asked.content))


def test_messages_of_a_websocket_are_redacted(server: tuple[Server, Path]) -> None:
    url = f"ws://127.0.0.1:{server[0].port}/talk?mail=jane.doe%40canary.example"
    with connect(url, open_timeout=20, close_timeout=20) as socket:
        assert socket.response is not None
        id_ = socket.response.headers["decision-id"]
        for text in (f"I, am, {EMAIL} ,", f"{CODE} {json.dumps(SAID)}"):
            socket.send(text)
            for word in text.split(" "):
                assert socket.recv(20) == word
    asked = kept(server[1], id_)
    assert_clean(everything(asked.content), NAME)
    assert len(messages(asked.stored("request"))) == 2
    sent = [one.payload.decode() for one in messages(asked.stored("response"))]
    assert sent[:5] == ["I,", "am,", "[redacted]", ",", "(fruit)"]


def test_amendments_pass_the_same_rules(server: tuple[Server, Path]) -> None:
    id_ = post(server[0], "/echo", b"{}", content_type="application/json")
    kept(server[1], id_)
    done = auditlog(
        *("amend", id_, "--kind", "human_review", "--dir", server[1]),
        *("--by", EMAIL, "--reason", f"asked {EMAIL}", "--attribute", f"ssn={SSN}"),
        env={"AUDITLOG_REDACT_KEYS": "ssn", "AUDITLOG_REDACT_PATTERNS": "email"},
    )
    assert done.status == 0, done
    amended = kept(server[1], done.out.strip())
    assert_clean(everything(amended.content))
    assert b"asked [redacted]" in everything(amended.content)


def test_every_file_is_clean_and_the_log_is_sound(
    server: tuple[Server, Path],
) -> None:
    post(server[0], "/echo", json.dumps(SAID).encode(), content_type="text/plain")
    directory = server[1]
    for path in directory.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes())
    with open_log(directory) as log:
        report = check_log(log)
    assert report.problems == (), report
