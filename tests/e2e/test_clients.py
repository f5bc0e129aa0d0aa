"""Real clients see the same bytes with the middleware and without, over real servers.

Everything is compared: status line, headers but for the date and ours, the framing
where the client shows it, the body as it crossed the wire, and how the answer ended.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import IN_CI
from tests.e2e.clients_app import EVENTS
from tests.e2e.processes import Server, free_port, wait_until

COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "--no-server-header", "--port"],
    "hypercorn": ["-m", "hypercorn", "--bind"],
    "granian": ["-m", "granian", "--interface", "asgi", "--port"],
}
CLIENT = httpx.Client(
    trust_env=False,
    verify=False,
    timeout=30,
    limits=httpx.Limits(max_keepalive_connections=0),
)
APP = "tests.e2e.clients_app:served"
OURS = "decision-id"
BOUNDARY = "a-boundary"
MULTIPART = (
    f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=f; filename=x.bin\r\n\r\n"
    f"\x00\x01\r\n--{BOUNDARY}--\r\n"
).encode("latin-1")


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


JSON = {"content-type": "application/json"}
GZIP = {"accept-encoding": "gzip"}
PLAIN = {"accept-encoding": "identity"}
REQUESTS = {
    "json": Asked("POST", "/json", JSON, b'{"income": 52000, "name": "Zo\xc3\xab"}'),
    "no body": Asked("GET", "/json"),
    "a body that is not read": Asked("POST", "/json?unread", JSON, b"{}" * 500),
    "a large body, for which curl asks first": Asked(
        "PUT", "/json", {}, b"x" * 3_000_000
    ),
    "multipart": Asked(
        "POST",
        "/json",
        {"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
        MULTIPART,
    ),
    "chunks": Asked("POST", "/chunks", PLAIN, b"x" * 100_000),
    "gzip": Asked("GET", "/long", GZIP),
    "not gzip": Asked("GET", "/long", PLAIN),
    "gzip of chunks": Asked("GET", "/drip", GZIP),
    "sse": Asked("GET", "/sse", PLAIN),
    "sse from a post": Asked("POST", "/sse", {**JSON, **PLAIN}, b"{}"),
    "a file": Asked("GET", "/file", PLAIN),
    "a range of a file": Asked("GET", "/file", {**PLAIN, "range": "bytes=5-20"}),
    "two ranges of a file": Asked("GET", "/file", {**PLAIN, "range": "bytes=1-2,5-6"}),
    "a range beyond it": Asked("GET", "/file", {**PLAIN, "range": "bytes=9999999-"}),
    "head": Asked("HEAD", "/json", PLAIN),
    "head of gzip": Asked("HEAD", "/long", GZIP),
    "head of a file": Asked("HEAD", "/file", PLAIN),
    "head of chunks": Asked("HEAD", "/chunks", PLAIN),
    "200 with an etag": Asked("GET", "/etag"),
    "304": Asked("GET", "/etag", {"if-none-match": '"v1"'}),
    "204": Asked("POST", "/nothing"),
    "401": Asked("POST", "/refused"),
    "404": Asked("GET", "/nowhere"),
    "405": Asked("DELETE", "/json"),
    "422": Asked("POST", "/typed/seven"),
    "500": Asked("POST", "/broken"),
    "an error in the middle": Asked("POST", "/cut", PLAIN),
}
UNRECORDED = {
    # No route takes them; and the 500 is made outside of what was added.
    "added": {"404", "405", "500"},
    "wrapped": {"404", "405"},
}


UNSTEADY = {
    "uvicorn": set[str](),
    "hypercorn": set[str](),
    # Closes now and then when a body was not read. And it sends files by itself, past
    # the compression, if it is let: so that they are seen, the middleware does not, and
    # the compression says what it depends on.
    "granian": {"connection", "vary"},
}
"""Headers that differ for other reasons."""


class Trio(NamedTuple):
    """One server three times: without the middleware, and with it in both places."""

    name: str
    plain: Server
    added: Server
    wrapped: Server
    directory: Path


def _server(name: str, how: str, directory: Path) -> Server:
    port = free_port()
    where = f"127.0.0.1:{port}" if name == "hypercorn" else str(port)
    here = directory / (how or "plain")
    here.mkdir()
    env = {
        "WITH": how,
        # The order of the methods in "Allow" is that of a set.
        "PYTHONHASHSEED": "0",
        "HEARD": str(here / "heard.json"),
        "AUDITLOG_DIR": str(here / "audit"),
    }
    command = [*COMMANDS[name], where, APP]
    return Server(command, port, here / "output.txt", env)


@pytest.fixture(scope="module", params=COMMANDS)
def trio(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trio]:
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        plain, added, wrapped = (
            stack.enter_context(_server(request.param, how, directory))
            for how in ("", "added", "wrapped")
        )
        yield Trio(request.param, plain, added, wrapped, directory)


class Seen(NamedTuple):
    """What a client saw."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    end: str
    """How the answer ended."""
    decision: bool
    """Whether there was a header of ours."""


def _seen(status: str, headers: list[tuple[str, str]], body: bytes, end: str) -> Seen:
    kept = [(k, v) for k, v in headers if k.lower() not in {"date", OURS}]
    decision = any(name.lower() == OURS for name, _ in headers)
    return Seen(status, kept, body, end, decision)


def _httpx(server: Server, asked: Asked) -> Seen:
    body, end = b"", "clean"
    url = f"http://127.0.0.1:{server.port}{asked.path}"
    with CLIENT.stream(
        asked.method, url, headers=asked.headers, content=asked.body
    ) as answer:
        try:
            for part in answer.iter_raw():
                body += part
        except httpx.RemoteProtocolError as error:
            end = str(error)
        headers = [(k.decode(), v.decode("latin-1")) for k, v in answer.headers.raw]
        return _seen(f"{answer.http_version} {answer.status_code}", headers, body, end)


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"{names[0]} is not installed"
        assert not IN_CI, reason
        pytest.skip(reason)
    return found


def _curl(server: Server, asked: Asked) -> Seen:
    """Ask with curl, which shows the framing of the answer as it came."""
    method = ["--head"] if asked.method == "HEAD" else ["--request", asked.method]
    headers = [
        word
        for name, value in asked.headers.items()
        for word in ("--header", f"{name}: {value}")
    ]
    body = ["--data-binary", "@-"] if asked.body else []
    done = subprocess.run(
        [
            *(_program("curl"), "--disable", "--noproxy", "*", "--silent", "--raw"),
            *("--include", "--max-time", "30", *method, *headers, *body),
            f"http://127.0.0.1:{server.port}{asked.path}",
        ],
        input=asked.body,
        capture_output=True,
        check=False,
    )
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    first = b""
    if head.startswith(b"HTTP/1.1 100"):
        first = head.partition(b"\r\n")[0]
        head, _, rest = rest.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = [tuple(line.split(": ", 1)) for line in lines[1:]]
    status = f"{first.decode()} {lines[0]}"
    return _seen(status, [(k, v) for k, v in pairs], rest, f"exit {done.returncode}")


def _expect_same(
    trio: Trio, name: str, ask: Callable[[Server, Asked], Seen], unsteady: set[str]
) -> None:
    without = ask(trio.plain, REQUESTS[name])
    assert not without.decision
    for how, server in (("added", trio.added), ("wrapped", trio.wrapped)):
        having = ask(server, REQUESTS[name])
        assert _steady(having, unsteady) == _steady(without, unsteady), how
        assert having.decision is (name not in UNRECORDED[how]), how


def _steady(seen: Seen, unsteady: set[str]) -> Seen:
    kept = [(k, v) for k, v in seen.headers if k.lower() not in unsteady]
    return seen._replace(headers=kept, decision=False)


@pytest.mark.parametrize("name", REQUESTS)
def test_httpx_sees_the_same_bytes(trio: Trio, name: str) -> None:
    _expect_same(trio, name, _httpx, UNSTEADY[trio.name])


@pytest.mark.parametrize("name", REQUESTS)
def test_curl_sees_the_same_bytes(trio: Trio, name: str) -> None:
    _expect_same(trio, name, _curl, UNSTEADY[trio.name])


def test_curl_got_every_answer(trio: Trio) -> None:
    """Or equal failures to ask would be equal bytes."""
    for name, asked in REQUESTS.items():
        seen = _curl(trio.wrapped, asked)
        assert "HTTP/1.1 " in seen.status, name
        assert seen.end == ("exit 18" if "middle" in name else "exit 0"), name
    large = _curl(trio.wrapped, REQUESTS["a large body, for which curl asks first"])
    assert large.status.startswith("HTTP/1.1 100")


def test_the_answers_are_what_they_are_named_after(trio: Trio) -> None:
    """Or equal bytes would be two equal mistakes."""
    seen = {name: _httpx(trio.wrapped, REQUESTS[name]) for name in REQUESTS}
    assert seen["sse"].body == "".join(EVENTS).encode()
    assert seen["gzip"].body[:2] == seen["gzip of chunks"].body[:2] == b"\x1f\x8b"
    assert dict(seen["gzip"].headers)["content-encoding"] == "gzip"
    assert len(seen["chunks"].body) == 1 + 100_000 + 80_000 + 3
    assert (
        seen["a range of a file"].body
        == Path(__file__).with_name("clients_app.py").read_bytes()[5:21]
    )
    assert seen["head of gzip"].body == b""
    assert seen["an error in the middle"].body == b"begun, "
    assert seen["an error in the middle"].end != "clean"
    for status in ("304", "204", "401", "404", "405", "422", "500"):
        assert seen[status].status == f"HTTP/1.1 {status}"


# --- a browser ------------------------------------------------------------------------

HEARD = [
    ["message", "one", ""],
    ["named", "två\nlines", "2"],
    ["message", '{"token": "\N{GRINNING FACE}"}', "2"],
    ["message", "", "4"],
    ["end", "after 4", "4"],
]


def _browse(server: Server, directory: Path) -> dict[str, Any]:
    """Have a browser open the page; return what it tells of what it heard."""
    heard = directory / "heard.json"
    with suppress(FileNotFoundError):
        heard.unlink()
    command = [
        *(_program("chromium", "chromium-browser"), "--headless=new", "--no-sandbox"),
        *("--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--no-proxy-server", "--disable-background-networking"),
        *("--disable-component-update", "--disable-extensions", "--disable-sync"),
        f"--user-data-dir={directory / 'profile'}",
        f"http://127.0.0.1:{server.port}/page",
    ]
    with (directory / "browser.txt").open("wb") as output:
        browser = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(heard.exists, 60, f"a word of the browser, {output.name}")
        wait_until(lambda: bool(heard.read_text()), 10, "the whole word")
        told: dict[str, Any] = json.loads(heard.read_text())
        return told
    finally:
        browser.kill()
        browser.wait(10)


@pytest.mark.parametrize("trio", ["uvicorn"], indirect=True)
def test_a_browser_hears_the_same_events(trio: Trio) -> None:
    without = _browse(trio.plain, trio.directory / "plain")
    assert without["heard"] == HEARD
    assert bytes(without["bytes"]) == "".join(EVENTS).encode()
    for how, server in (("added", trio.added), ("wrapped", trio.wrapped)):
        assert _browse(server, trio.directory / how) == without
