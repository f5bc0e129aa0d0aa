"""Real clients of language models, asking the demo with and without the audit log.

The clients are those of OpenAI and Anthropic, unchanged; only the transport below them
notes which bytes went by.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from auditlog.capture.reading import Reading
from auditlog.core.record import Entry, parse_entry
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.e2e.servers import SERVERS, recovered, serve

APP = "tests.e2e.textmodel_app:app"
MODEL = "credit-letters"
ENDLESS = "Tell me everything"
"""Told to be certain, the model goes round in circles about this."""
LEAVES_AFTER = 5
"""Events after which a client leaves."""


@dataclass
class Seen:
    """One exchange, as bytes below the client."""

    request: bytes
    status: int
    headers: httpx2.Headers
    body: bytearray = field(default_factory=bytearray)
    """Of the response, without the framing of HTTP."""

    @property
    def id(self) -> str:
        """Of the decision."""
        return self.headers["decision-id"]


class _Tee(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, inner: Any, seen: Seen) -> None:
        self._inner = inner
        self._seen = seen

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._seen.body += part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._seen.body += part
            yield part

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Recorder(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Carries one request as ever, and notes what goes by."""

    def __init__(self, carrier: Any) -> None:
        self._carrier = carrier
        self._seen: list[Seen] = []

    @property
    def seen(self) -> Seen:
        """The only exchange that there was."""
        (only,) = self._seen
        return only

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        return self._noted(body, self._carrier.handle_request(request))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        return self._noted(body, await self._carrier.handle_async_request(request))

    def _noted(self, body: bytes, response: httpx2.Response) -> httpx2.Response:
        seen = Seen(body, response.status_code, response.headers)
        self._seen.append(seen)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Tee(response.stream, seen),
            extensions=response.extensions,
        )


class Call(NamedTuple):
    """One call of a method of the client."""

    method: str
    """Such as ``chat.completions.create``."""
    arguments: Mapping[str, Any]
    leaves: bool = False
    """Whether it reads only some events of the answer."""

    @property
    def streams(self) -> bool:
        """Whether its answer comes in events."""
        return self.method.endswith(".stream") or "stream" in self.arguments


class Got(NamedTuple):
    """What came of a call."""

    result: Any
    """What the client returned, all events of a stream, or the error that it raised."""
    seen: Seen


class Clients(NamedTuple):
    """How to make clients of one library, and what they raise."""

    sync: Callable[[str, httpx2.Client], Any]
    """Gets the URL of the server, and what to speak HTTP with."""
    asynchronous: Callable[[str, httpx2.AsyncClient], Any]
    error: type[Exception]


class Asked(NamedTuple):
    """Each call, made in each way; what came of it, and what the log says of it."""

    got: Mapping[tuple[str, str, str], Got]
    """By name of the call, ``sync`` or ``async``, and ``plain`` or ``logged``."""
    entries: Mapping[str, Entry]
    """Decisions in the log, by id."""
    contents: Mapping[str, tuple[bytes, bytes]]
    """Their stored request and response."""
    readings: Mapping[str, Reading | None]
    """What the log says that they say."""
    directory: Path
    """Of the log."""

    def reading(self, name: str, way: str) -> Reading:
        """Return what the log says that the answer to a call says."""
        reading = self.readings[self.got[name, way, "logged"].seen.id]
        assert reading is not None
        return reading

    def decision(self, name: str, way: str) -> tuple[Entry, bytes, bytes]:
        """Return the entry of a call, and the request and response stored for it."""
        id_ = self.got[name, way, "logged"].seen.id
        return (self.entries[id_], *self.contents[id_])


Told = tuple[str, list[tuple[str, str]]]
"""A text, and calls of tools by name and arguments."""
LEFT = "client_disconnected"
WAYS = ("sync", "async")


def ask_all(clients: Clients, calls: Mapping[str, Call], directory: Path) -> Asked:
    """Make all calls, in all ways, on a server with the log and on one without."""
    kinds = ("plain", "logged")
    with ThreadPoolExecutor(len(kinds)) as pool:
        found = pool.map(lambda kind: _ask(clients, calls, directory / kind), kinds)
        got = {
            (name, way, kind): one
            for kind, ways in zip(kinds, found, strict=True)
            for way, ones in ways.items()
            for name, one in ones.items()
        }
    log = recovered(directory / "logged")
    where = directory / "logged" / "audit"
    with open_log(where, read_only=True) as opened:
        reader = Reader(opened)
        read = {one["id"]: reader.read(one["id"]) for one in log.decisions}
        entries = {id_: parse_entry(reader.decision(id_).entry or b"") for id_ in read}
    contents = {id_: (one.request, one.response) for id_, (one, _) in read.items()}
    readings = {id_: reading for id_, (_, reading) in read.items()}
    return Asked(got, entries, contents, readings, where)


def _ask(
    clients: Clients, calls: Mapping[str, Call], directory: Path
) -> dict[str, dict[str, Got]]:
    """Make all calls on one server, in each way."""
    directory.mkdir()
    env = {"LOGGED": directory.name, "AUDITLOG_DURABILITY": "sync"}
    with serve(SERVERS["uvicorn"], APP, directory, env) as server:
        url = f"http://127.0.0.1:{server.port}"
        in_turn = _ask_in_turn(clients, calls, url)
        side_by_side = asyncio.run(_ask_side_by_side(clients, calls, url))
    return dict(zip(WAYS, (in_turn, side_by_side), strict=True))


def _ask_in_turn(
    clients: Clients, calls: Mapping[str, Call], url: str
) -> dict[str, Got]:
    with httpx2.HTTPTransport() as carrier:
        return {
            name: _ask_once(clients, call, url, Recorder(carrier))
            for name, call in calls.items()
        }


def _ask_once(clients: Clients, call: Call, url: str, recorder: Recorder) -> Got:
    client = clients.sync(url, httpx2.Client(transport=recorder, trust_env=False))
    try:
        result = _take(attrgetter(call.method)(client), call)
    except clients.error as error:
        result = str(error)
    return Got(result, recorder.seen)


def _take(method: Callable[..., Any], call: Call) -> Any:
    answer = method(**call.arguments)
    if not call.streams:
        return _plain(answer)
    with answer as stream:
        events = []
        for event in stream:
            events.append(_plain(event))
            if call.leaves and len(events) == LEAVES_AFTER:
                break
    return events


def _plain(value: Any) -> Any:
    # The clients' own types do not fit one another; pydantic would warn of that.
    return value.model_dump(warnings=False)


async def _ask_side_by_side(
    clients: Clients, calls: Mapping[str, Call], url: str
) -> dict[str, Got]:
    async with httpx2.AsyncHTTPTransport() as carrier:
        asking = [
            _ask_once_async(clients, call, url, Recorder(carrier))
            for call in calls.values()
        ]
        return dict(zip(calls, await asyncio.gather(*asking), strict=True))


async def _ask_once_async(
    clients: Clients, call: Call, url: str, recorder: Recorder
) -> Got:
    http = httpx2.AsyncClient(transport=recorder, trust_env=False)
    client = clients.asynchronous(url, http)
    try:
        result = await _take_async(attrgetter(call.method)(client), call)
    except clients.error as error:
        result = str(error)
    return Got(result, recorder.seen)


async def _take_async(method: Callable[..., Any], call: Call) -> Any:
    answer = method(**call.arguments)
    if not call.method.endswith(".stream"):
        answer = await answer
    if not call.streams:
        return _plain(answer)
    async with answer as stream:
        events = []
        async for event in stream:
            events.append(_plain(event))
            if call.leaves and len(events) == LEAVES_AFTER:
                break
    return events


def expect_same_bytes(asked: Asked, name: str, way: str) -> None:
    """Expect that nobody can tell from the bytes whether there is a log."""
    plain, logged = (asked.got[name, way, kind] for kind in ("plain", "logged"))
    assert logged.result == plain.result
    assert logged.seen.request == plain.seen.request
    assert logged.seen.status == plain.seen.status
    bodies = [plain.seen.body, logged.seen.body]
    if asked.entries[logged.seen.id].data["outcome"] == LEFT:
        # How much of the next event had come along when it left is chance.
        bodies = [body[: min(map(len, bodies))] for body in bodies]
    assert bodies[0] == bodies[1]
    assert _headers(logged.seen) == _headers(plain.seen)


def _headers(seen: Seen) -> list[tuple[str, str]]:
    ours = {"date", "decision-id"}
    return [pair for pair in seen.headers.multi_items() if pair[0] not in ours]


def expect_stored_bytes(asked: Asked, name: str, way: str, route: str) -> None:
    """Expect that the decision is of these very bytes, and names the model."""
    seen = asked.got[name, way, "logged"].seen
    entry, request, response = asked.decision(name, way)
    assert request == seen.request
    assert entry.data["http.route"] == route
    assert entry.data["http.response.status_code"] == seen.status
    if entry.data["outcome"] == LEFT:
        # What the server was handed at least covers what the client got.
        assert response.startswith(seen.body)
        assert entry.data["response"]["state"] == "partial"
    else:
        assert entry.data["outcome"] == "completed"
        assert response == seen.body


def shown(reading: Reading) -> list[Told]:
    """Return what each answer says, as somebody who looks at the decision is shown."""
    return [
        (one.text, [(call.name or "", call.arguments) for call in one.tool_calls])
        for one in reading.answers
    ]


class _Stored(httpx2.BaseTransport):
    """Answers with bytes that were stored."""

    def __init__(self, seen: Seen, stored: bytes) -> None:
        self._seen = seen
        self._stored = stored

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            self._seen.status, headers=self._seen.headers, content=self._stored
        )


def replay(clients: Clients, call: Call, asked: Asked, name: str, way: str) -> Any:
    """Return what the client makes of the response that is stored for a decision."""
    stored = asked.decision(name, way)[2]
    carrier = _Stored(asked.got[name, way, "logged"].seen, stored)
    return _ask_once(clients, call, "http://stored", Recorder(carrier)).result
