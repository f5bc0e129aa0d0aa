import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import Any

import pytest

from demo_service.models import load_data
from demo_service.processes import DemoError
from demo_service.traffic import KINDS, Call, make_calls, send

ROWS = load_data().test_rows()


def test_calls_are_of_all_kinds_and_versions_and_of_real_rows() -> None:
    calls = make_calls(ROWS, 600)
    assert len(calls) == 600
    shares = Counter((call.kind, call.version) for call in calls)
    assert set(shares) == set(product(KINDS, "12"))
    assert min(shares.values()) >= 18
    for call in calls:
        rows = call.body.get("instances") or [call.body["features"]]
        assert all(row in ROWS for row in rows)


class Service(BaseHTTPRequestHandler):
    """Answers every call with what the test put into `answers`."""

    answers: tuple[int, dict[str, str], Any] = (200, {}, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.answers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


CALL = Call("json", "1", {"features": ROWS[0]})
BATCH = Call("batch", "1", {"instances": ROWS[:2]})
ANSWER = {"label": "benign"}


def test_a_decision_is_what_the_caller_got(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "answers", (200, {"decision-id": "d1"}, ANSWER))
    (decision,) = send(service, [CALL])
    assert decision == ("d1", CALL, b'{"label": "benign"}')


@pytest.mark.parametrize(
    ("call", "answer", "complaint"),
    [
        (CALL, (503, {}, ANSWER), "expected HTTP status 200, got 503"),
        (CALL, (200, {}, ANSWER), "has no decision-id header"),
        (BATCH, (200, {}, {"predictions": [ANSWER]}), "answered with 1 labels"),
    ],
)
def test_an_answer_that_is_not_as_it_should_be_ends_the_demo(
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    answer: tuple[int, dict[str, str], Any],
    complaint: str,
) -> None:
    monkeypatch.setattr(Service, "answers", answer)
    with pytest.raises(DemoError, match=complaint):
        send(service, [call])
