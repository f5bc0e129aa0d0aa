import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo_service.deployment import Deployment


class Service(BaseHTTPRequestHandler):
    """Lists decisions, the newest first, as the auditor's interface does."""

    rows: tuple[tuple[str, int], ...] = ()

    def do_GET(self) -> None:
        limit = int(self.path.partition("limit=")[2])
        rows = [{"id": id_, "index": index} for id_, index in self.rows[:limit]]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"decisions": rows}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def made() -> Iterator[Deployment]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield Deployment(Path(), url, "", (), (), "")
        server.shutdown()
        thread.join()


def test_the_last_decision_is_known_once_all_have_a_place(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "c" was answered last, and is accepted, but not among the entries yet.
    monkeypatch.setattr(Service, "rows", (("b", 604), ("a", 603)))
    assert made.last({"b", "c"}) == {}
    monkeypatch.setattr(Service, "rows", (("c", 605), ("b", 604), ("a", 603)))
    assert made.last({"b", "c"}) == {"id": "c", "index": 605}
