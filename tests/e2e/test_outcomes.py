"""How a call ended, on real servers: each end is told apart, each call stands once."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.e2e.servers import SERVERS, Stream, post, recovered, serve
from tests.harness import Log

PLACEMENTS = {
    "added": {},
    # A middleware of Starlette's between ours and the application.
    "behind": {},
    "wrapped": {"AUDITLOG_DURABILITY": "sync"},
}
ARMS = [(server, placement) for server in SERVERS for placement in PLACEMENTS]


class Ended(NamedTuple):
    """What the log says of one call."""

    outcome: str
    status: int | None
    request: str
    response: str
    afterwards: str | None = None
    """Kind of the later entry about it."""


EXPECTED = {
    "completed": Ended("completed", 200, "complete", "complete"),
    "unread": Ended("completed", 200, "unread", "complete"),
    "streamed": Ended("completed", 200, "complete", "complete"),
    "rejected": Ended("rejected", 422, "unread", "complete"),
    "failed": Ended("error", 503, "unread", "complete"),
    "raises": Ended("error", None, "unread", "not_observed"),
    "raises_in_stream": Ended("error", 200, "complete", "partial"),
    "raises_later": Ended(
        "completed", 200, "complete", "complete", "error_after_response"
    ),
    "silent": Ended("incomplete", None, "complete", "not_observed"),
    "unfinished": Ended("incomplete", 200, "complete", "partial"),
    "short": Ended("incomplete", 200, "complete", "partial"),
    "endless": Ended("client_disconnected", 200, "complete", "partial"),
    "killed": Ended("interrupted", 200, "complete", "partial"),
}

DIFFERENT: dict[str, dict[str, Ended]] = {
    "added": {},
    "behind": {
        # It ends the answer of a handler that raises, so that the client cannot
        # tell; the exception comes afterwards.
        "raises_in_stream": Ended(
            "completed", 200, "complete", "complete", "error_after_response"
        ),
        # It raises where the application does nothing.
        "silent": Ended("error", None, "complete", "not_observed"),
    },
    # Outside of everything the error page is seen, too.
    "wrapped": {"raises": Ended("error", 500, "unread", "complete")},
    # Killed without a word; the next start says that there was a call.
    "granian": {"killed": Ended("interrupted", None, "not_observed", "not_observed")},
}


class Arm(NamedTuple):
    """What one server with the middleware in one place has left."""

    log: Log
    directory: Path


def _run(server: str, placement: str, directory: Path) -> Arm:
    """Call each endpoint once, the last one while the server stops."""
    env = {"PLACEMENT": placement, **PLACEMENTS[placement]}
    app = "tests.e2e.outcomes_app:app"
    with serve(SERVERS[server], app, directory, env) as serving:
        for name in EXPECTED:
            if name not in {"short", "endless", "killed"}:
                with suppress(OSError, http.client.HTTPException):
                    post(serving.port, f"/{name}")
        short = Stream(serving.port, "/short")
        short.read_until(lambda received: received.endswith(b"12345"))
        short.close()
        endless = Stream(serving.port, "/endless")
        endless.read_more()
        endless.close()
        killed = Stream(serving.port, "/killed")
        killed.read_more()
    killed.close()
    return Arm(recovered(directory), directory)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Arm]:
    """Return what each arm left; they run side by side, as most of it is waiting."""
    directories = [tmp_path_factory.mktemp("-".join(arm)) for arm in ARMS]
    with ThreadPoolExecutor(len(ARMS)) as pool:
        found = pool.map(
            lambda arm, directory: _run(arm[0], arm[1], directory), ARMS, directories
        )
        return dict(zip(ARMS, found, strict=True))


def _ends(log: Log) -> list[tuple[str, Ended]]:
    """Return what the log says of each call, by name of the endpoint."""
    afterwards = {
        event["data"]["decision"]: event["data"]["kind"]
        for event in map(json.loads, log.entries)
        if event["type"] == "auditlog.amendment.v1"
    }
    ends = []
    for decision in log.decisions:
        data = decision["data"]
        # What was only journalled has no route.
        name = data.get("http.route", "/killed").removeprefix("/")
        ended = Ended(
            data["outcome"],
            data.get("http.response.status_code"),
            data["request"]["state"],
            data["response"]["state"],
            afterwards.pop(decision["id"], None),
        )
        ends.append((name, ended))
    assert afterwards == {}, "an amendment of no decision"
    return ends


@pytest.mark.parametrize(("server", "placement"), ARMS)
def test_each_end_is_told_apart_and_each_call_stands_once(
    arms: dict[tuple[str, str], Arm], server: str, placement: str
) -> None:
    expected = EXPECTED | DIFFERENT[placement] | DIFFERENT.get(server, {})
    ends = _ends(arms[server, placement].log)
    assert dict(ends) == expected
    assert len(ends) == len(expected)


@pytest.mark.parametrize(("server", "placement"), ARMS)
def test_what_was_sent_before_the_client_left_is_kept(
    arms: dict[tuple[str, str], Arm], server: str, placement: str
) -> None:
    log, directory = arms[server, placement]
    left = [
        one["id"]
        for one in log.decisions
        if one["data"]["outcome"] == "client_disconnected"
    ]
    with open_log(directory / "audit", read_only=True) as opened:
        content = Reader(opened).content(left[0])
    assert content.request == b"{}"
    assert content.response.startswith(b"data: 0\n\ndata: 1\n\ndata: 2\n\n")


def test_a_client_that_leaves_one_stream_of_http2(tmp_path: Path) -> None:
    app, env = "tests.e2e.outcomes_app:app", {"PLACEMENT": "added"}
    with serve(SERVERS["hypercorn"], app, tmp_path, env) as serving:
        base = f"http://127.0.0.1:{serving.port}"
        with httpx.Client(http1=False, http2=True, base_url=base) as client:
            with client.stream("POST", "/endless", json={"x": 1}) as answer:
                next(answer.iter_bytes())
            # The connection goes on.
            assert client.post("/completed", json={"x": 1}).http_version == "HTTP/2"
    ends = {name: ended.outcome for name, ended in _ends(recovered(tmp_path))}
    assert ends == {"endless": "client_disconnected", "completed": "completed"}
