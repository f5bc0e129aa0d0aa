"""Canaries through every path of a real service: nothing of them stands in clear.

A service is given words that stand nowhere else, under load, in every place where a
request has room for one, and is killed in the middle of some. Then every byte that it
and we keep, say or hand out without the right to content is searched for them, in each
encoding and inside whatever is compressed.
"""

import base64
import contextlib
import gzip
import http.client
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

from auditlog.config import Config
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import DECISION, format_id
from auditlog.log.content import Content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.log.tokens import create_token
from auditlog.storage import Query
from tests.command import auditlog, started
from tests.e2e.canaries import ENCODINGS, Canaries, compressed
from tests.e2e.processes import Server, wait_until
from tests.e2e.servers import serve
from tests.harness import check_whole_log

APP = "tests.e2e.canaries_app:app"
ROUNDS, CLIENTS = 3, 4
HALF = 2_600_000
"""Bytes of an upload that has come when the service is killed."""


class Seen(NamedTuple):
    """What was kept, said and handed out, by where; and what opens with the keys."""

    canaries: Canaries
    live: dict[str, bytes]
    killed: dict[str, bytes]
    recovered: dict[str, bytes]
    outside: dict[str, bytes]
    contents: list[Content]


# --- a service that is given canaries -------------------------------------------------


class Client:
    """Puts canaries where a client can."""

    def __init__(self, port: int, canaries: Canaries) -> None:
        self.port, self.canaries = port, canaries

    def post(self, path: str, body: Any, **headers: str) -> int:
        """Ask once; return the status, or 0 where the answer was cut."""
        word = self.canaries.word
        given = {
            "authorization": "Basic "
            + base64.b64encode(f"me:{word('password')}".encode()).decode(),
            "cookie": f"session={word('cookie')}",
            "user-agent": word("agent"),
            "referer": f"http://x/{word('referer')}",
            "x-forwarded-for": word("address"),
            "x-request-id": word("request id"),
            "traceparent": f"00-{self.canaries.raw.hex()}-{'ab' * 8}-01",
            "tracestate": f"x={word('tracestate')}",
            "baggage": f"user={word('baggage')}",
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        query = f"?{word('query name')}={word('query')}&a=1#{word('fragment')}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            try:
                connection.request("POST", path + query, body, given)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return 0
            return response.status

    def everything(self) -> None:
        """Go through every path once."""
        for path in (self.json, self.bodies, self.events, self.failures, self.beyond):
            path()

    def json(self) -> None:
        word = self.canaries.word
        said = {
            name: word(f"said {name}")
            for name in (
                *("subject", "user", "session", "label", "reason", "reviewer"),
                *("annotated", "attempt", "provider", "why", "model", "cookie"),
            )
        }
        said["annotated key"] = word("annotated key")[:64]
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in word("escaped"))
        asked = {
            "said": said,
            "number": self.canaries.number("number"),
            word("key"): {"deep": [[{"er": word("nested")}]]},
            "Pass Word": {"deep": [word("redacted"), self.canaries.number("secret")]},
            "mail": f"write to {word('mailbox')}@example.org today",
            "text": f'"é/{word("quoted")}\u2028\\',
        }
        body = json.dumps(asked)[:-1] + f', "e": "{escaped}"}}'
        person = word("path parameter")
        assert self.post(f"/score/{person}", body) == 200
        zipped = gzip.compress(body.encode())
        status = self.post(
            f"/score/{person}",
            zipped,
            content_encoding="gzip",
            accept_encoding="gzip",
        )
        assert status in {200, 500}, "the service does not undo it; we do"

    def bodies(self) -> None:
        word = self.canaries.word
        post = self.post
        form = f"{word('form field')}={word('form')}&b=%C3%A9"
        post("/echo", form, content_type="application/x-www-form-urlencoded")
        parts = (
            f'--b\r\nContent-Disposition: form-data; name="{word("part")}"; '
            f'filename="{word("file name")}"\r\nContent-Type: text/plain\r\n\r\n'
            f"{word('file')}\r\n--b--\r\n"
        )
        post("/echo", parts, content_type="multipart/form-data; boundary=b")
        post("/echo", word("text"), content_type="text/plain; charset=utf-8")
        utf16 = word("utf-16 text").encode("utf-16")
        post("/echo", utf16, content_type="text/plain; charset=utf-16")
        post("/echo", b"\xff\x00" + word("binary").encode(), content_type="image/png")
        post("/echo", word("odd"), content_type=f"application/x-{word('media type')}")
        post("/echo", word("not JSON") + "{")
        large = f'{{"large": "{word("large")}", "x": "{"x" * 1_300_000}"}}'
        post("/upload", large)
        post("/echo", gzip.compress(large.encode()), content_encoding="gzip")
        post(f"/nowhere/{word('unknown path')}", word("to nowhere"))
        chat = {"model": word("chat model"), "messages": [{"content": word("chat")}]}
        post("/v1/chat/completions", json.dumps(chat))

    def events(self) -> None:
        word = self.canaries.word
        self.post("/events", word("event"), content_type="text/plain")
        with self.half("/endless", 20, word("endless")) as connection:
            connection.recv(4096)
        with self.session() as session:
            session.send(word("message"))
            assert session.recv() == word("message")
            assert session.recv() == word("message").encode()
        with contextlib.suppress(Exception), self.session() as session:
            session.send(f"raise {word('raised in a session')}")
            for _ in range(3):
                session.recv()

    def failures(self) -> None:
        word, post = self.canaries.word, self.post
        for status in (401, 403, 404, 422, 429, 500, 503):
            assert post(f"/refused/{status}", word(f"refused {status}")) == status
        assert post("/typed", json.dumps({word("typed key"): word("typed")})) == 422
        plain = {"content_type": "text/plain"}
        assert post("/raises", word("raised"), **plain) == 500
        post("/raises/late", word("raised late"), **plain)
        post("/raises/after", word("raised after"), **plain)
        assert post("/wrong", word("wrong"), **plain) == 200
        with self.half("/upload", 100, word("cut short")):
            pass

    def beyond(self) -> None:
        names = (
            *("key", "input", "output", "subject", "user", "session", "note", "by"),
            *("reason", "label", "ticket"),
        )
        said = {name: self.canaries.word(f"job {name}") for name in names}
        assert self.post("/job", json.dumps(said)) == 200
        people = [self.canaries.word(f"in a batch {n}") for n in range(3)]
        assert self.post("/batch", json.dumps({"instances": people})) == 200

    @contextlib.contextmanager
    def half(self, path: str, length: int, body: str) -> Iterator[socket.socket]:
        """Begin a request of so many bytes, and send some of them."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {length}\r\n\r\n{body}".encode()
            )
            yield connection

    def session(self) -> ClientConnection:
        """Open a WebSocket."""
        word = self.canaries.word
        return connect(
            f"ws://127.0.0.1:{self.port}/socket?{word('socket query')}",
            additional_headers={"cookie": word("socket cookie")},
            max_size=None,
            open_timeout=20,
        )


# --- every byte -----------------------------------------------------------------------


def every_file(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory, by name."""
    found = {}
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def open_files(pid: int) -> dict[str, bytes]:
    """Return what a process has open, files without a name among them."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if stat.S_ISREG(link.stat().st_mode):
                found[f"fd {link.name} {link.readlink()}"] = link.read_bytes()
    return found


def spilled(pid: int) -> int:
    """Return the bytes in files without a name."""
    return sum(len(d) for name, d in open_files(pid).items() if "(deleted)" in name)


def handed_out(directory: Path, ids: list[str]) -> dict[str, bytes]:
    """Return what the public and an auditor are told, over HTTP and by command."""
    with open_log(directory) as log:
        token = create_token(log.store, "auditor", label="tests", now=time.time())
        size = log.store.size()
        log.close()
    found = {}
    bundles = [f"tile/entries/000.p/{size}"] if size < 256 else ["tile/entries/000"]
    with started("serve", "--dir", directory) as running:
        for path in (
            *("checkpoint", "metrics", "openapi.json", "tile/0/000", *bundles),
            "api/v1/decisions?limit=1000",
            *(f"api/v1/decisions/{id_}" for id_ in ids[:40]),
            *(f"api/v1/decisions/{id_}/receipt" for id_ in ids[:40]),
        ):
            ask = Request(
                f"{running.url}/{path}", headers={"Authorization": f"Bearer {token}"}
            )
            with contextlib.suppress(OSError), urlopen(ask, timeout=20) as answer:
                found[path] = answer.read()
                found[f"{path}, its headers"] = str(answer.headers).encode()
    for command in (
        *(("find", "--limit", "1000"), ("check", "--emitters"), ("doctor",)),
        ("show", ids[0]),
    ):
        done = auditlog(*command, "--json", "--dir", directory)
        found[f"auditlog {command[0]}"] = (done.out + done.err).encode()
    return found


def unsealed(directory: Path) -> tuple[list[str], list[Content]]:
    """Return the ids of all decisions, and whatever opens with the keys."""
    with open_log(directory, read_only=True) as log:
        reader, contents = Reader(log), []
        rows = log.store.find(Query(limit=100_000))
        for row in rows:
            assert row.index is not None
            if log.store.sealed(row.index) is not None:
                contents.append(reader.content(format_id(row.id)))
        return [format_id(r.id) for r in rows if r.type == DECISION], contents


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What is there of a service that was given canaries, killed and started again.

    Decisions are accepted ahead of the store, as they are where nobody says otherwise:
    ``sync`` writes the same files, and some of them less often.
    """
    home, canaries = tmp_path_factory.mktemp("canaries"), Canaries()
    (home / "tmp").mkdir()
    command = ["-m", "uvicorn", "--no-access-log", "--log-level", "critical"]
    env = {
        "AUDITLOG_DURABILITY": "spool",
        "AUDITLOG_METRICS": "true",
        "AUDITLOG_MODEL_HEADER": "x-model",
        "AUDITLOG_MODELS": "credit@3",
        "AUDITLOG_KEEP_REJECTED": "true",
        "AUDITLOG_REDACT_KEYS": "password",
        "AUDITLOG_REDACT_PATTERNS": "email",
        "AUDITLOG_REDACT_UNREADABLE": "keep",
        "AUDITLOG_MAX_STORED_BYTES": str(4 << 20),
        "TMPDIR": str(home / "tmp"),
    }
    with serve(command, APP, home, env) as server, _killed(server):
        client = Client(server.port, canaries)
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda _: client.everything(), range(ROUNDS)))
        with _in_the_middle(server, client) as live:
            server.kill()
            killed = every_file(home)
    Runtime(Config(dir=home / "audit")).stop()
    check_whole_log(home / "audit")
    ids, contents = unsealed(home / "audit")
    outside = handed_out(home / "audit", ids)
    return Seen(canaries, live, killed, every_file(home), outside, contents)


@contextlib.contextmanager
def _killed(server: Server) -> Iterator[None]:
    """Kill a server in the end, whatever happens: some of its requests never end."""
    try:
        yield
    finally:
        server.kill()


@contextlib.contextmanager
def _in_the_middle(server: Server, client: Client) -> Iterator[dict[str, bytes]]:
    """Yield what is there while requests of every sort are half-way."""
    word = client.canaries.word
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(client.half("/echo", 1000, word("in memory")))
        large = (word("in the spill") + "\n") * (HALF // 21)
        enter(client.half("/upload", 2 * HALF, large))
        endless = enter(client.half("/endless", 20, word("streaming")))
        endless.recv(4096)
        session = enter(client.session())
        session.send((word("in a session") + " ") * 90_000)
        wait_until(lambda: spilled(server.pid) > 1_000_000, 20, "a spill")
        metrics = urlopen(f"http://127.0.0.1:{server.port}/metrics").read()
        # Accepted, and perhaps not in the store yet.
        client.json()
        yield {
            **every_file(server_home(server)),
            **open_files(server.pid),
            "/metrics": metrics,
        }


def server_home(server: Server) -> Path:
    """Return where a server has its log, its output and its temporary files."""
    return server._output.parent


# --- what is found --------------------------------------------------------------------


def _canaries_in(seen: Seen, found: dict[str, bytes]) -> list[str]:
    return [
        f"{w}: {one}"
        for w, data in found.items()
        for one in seen.canaries.found_in(data)
    ]


@pytest.mark.parametrize("moment", ["live", "killed", "recovered"])
def test_no_byte_that_is_kept_says_what_was_captured(seen: Seen, moment: str) -> None:
    found = getattr(seen, moment)
    names = " ".join(found)
    for kept in ("log.sqlite3", "keys/keyring", "keys/vault.key", "output.txt"):
        assert kept in names
    assert _canaries_in(seen, found) == []


def test_files_without_a_name_and_the_journal_were_among_them(seen: Seen) -> None:
    names = " ".join(seen.live)
    for kept in ("(deleted)", "log.sqlite3-wal", "log.sqlite3-shm", ".journal"):
        assert kept in names, sorted(seen.live)
    unnamed = [data for name, data in seen.live.items() if "(deleted)" in name]
    assert max(map(len, unnamed)) > 1_000_000


def test_nothing_that_is_handed_out_without_the_right_to_content_says_it(
    seen: Seen,
) -> None:
    assert len(seen.outside) > 80
    assert all(seen.outside.values())
    assert _canaries_in(seen, seen.outside) == []


def test_no_receipt_opens_anything(seen: Seen) -> None:
    receipts = [d for name, d in seen.outside.items() if name.endswith("/receipt")]
    assert receipts
    for receipt in receipts:
        assert parse_receipt(receipt).disclosures == ()


NEVER_CAPTURED = {
    *("password", "cookie", "agent", "referer", "address", "request id"),
    *("tracestate", "baggage", "socket cookie"),
    *("unknown path", "to nowhere", "chat", "chat model"),
}
"""Headers, and what is sent where no route is."""
REDACTED = {"redacted", "secret", "mailbox", "not JSON", "cut short"}
"""What rules take out, or cannot look into, is not even in what is sealed."""
LOST = {"in memory", "in the spill", "in a session", "streaming"}
"""What the kill took; it is admitted as interrupted."""


def test_all_of_it_was_captured_and_opens_with_the_keys(seen: Seen) -> None:
    """Or to have found nothing would mean nothing."""
    opened = b"".join(part.value for one in seen.contents for part in one.parts)
    missing = {
        name
        for name, text in seen.canaries.names.items()
        if text.encode() not in opened and text.encode("utf-16") not in opened
    }
    assert missing == NEVER_CAPTURED | LOST | REDACTED
    assert seen.canaries.raw.hex().encode() in opened


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [(encoding, "word") for encoding in ENCODINGS]
    + [(encoding, "number") for encoding in ENCODINGS if encoding != "upper case"],
)
@pytest.mark.parametrize("before", range(5))
def test_the_search_finds_one_in_every_encoding(
    encoding: str, kind: str, before: int
) -> None:
    canaries = Canaries()
    word = str(getattr(canaries, kind)("planted")).encode()
    planted = WRITE[encoding](b"x" * before + word + b"y")
    data = os.urandom(5000) + planted + os.urandom(5000)
    assert canaries.found_in(os.urandom(10_000)) == []
    assert any(f"{encoding} b" in one for one in canaries.found_in(data))


WRITE: dict[str, Callable[[bytes], bytes]] = {
    "clear": bytes,
    "upper case": bytes.upper,
    "UTF-16": lambda text: text.decode().encode("utf-16-be"),
    "UTF-32": lambda text: text.decode().encode("utf-32-be"),
    "base64": base64.b64encode,
    "base32": base64.b32encode,
    "hex": lambda text: text.hex().encode(),
    "hex with colons": lambda text: text.hex(":").encode(),
    "URL": lambda text: "".join(f"%{one:02X}" for one in text).encode(),
    "JSON": lambda text: "".join(f"\\u{one:04x}" for one in text).encode(),
    "Python": lambda text: "".join(f"\\x{one:02x}" for one in text).encode(),
    "reversed": lambda text: text[::-1],
}


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_the_search_looks_into_what_is_compressed(how: str) -> None:
    canaries = Canaries()
    frame = compressed(how, b"x" * 100 + canaries.word("planted").encode() * 3)
    data = os.urandom(3000) + frame + os.urandom(3000)
    assert any("in the frame at 3000" in one for one in canaries.found_in(data))


@pytest.mark.parametrize("how", ["big", "little"])
def test_the_search_finds_a_number_that_a_database_wrote(how: Any) -> None:
    canaries = Canaries()
    data = os.urandom(99) + canaries.number("planted").to_bytes(8, how)
    assert any(one.startswith("binary") for one in canaries.found_in(data))
