"""Whatever is served: a round ends in time, in a finding, with the state unharmed."""

import gzip
import json
import re
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.core.errors import MalformedError, NotFoundError, VerificationError
from auditlog.core.merkle import leaf_hash, node_hash
from auditlog.core.tiles import Tile
from auditlog.monitor.source import MAX_BUNDLE, Source, Terms, read_bundle
from tests.monitor.tiled import Answer, Site, TiledLog, look, served
from tests.witnesses import listening

LOG = TiledLog([b"entry %d" % i for i in range(600)])
POLICY = LOG.policy()
OK = b"HTTP/1.1 200 OK\r\n"


def endless(connection: socket.socket) -> None:
    connection.sendall(OK + b"\r\n")
    while True:
        connection.sendall(b"A" * 65536)


def dripping(connection: socket.socket) -> None:
    connection.sendall(OK + b"Content-Length: 100\r\n\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.02)


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


@pytest.mark.parametrize(
    "serve",
    [endless, dripping, silent, lambda one: one.sendall(b"\0" * 100)],
    ids=["endless", "dripping", "silent", "noise"],
)
def test_a_checkpoint_that_never_ends(
    tmp_path: Path, serve: Callable[[socket.socket], None]
) -> None:
    with listening(serve, read=False) as url:
        begun = time.monotonic()
        done = look(tmp_path / "m", url, policy=POLICY, timeout=0.5)
        assert time.monotonic() - begun < 10
    assert (done.status, done.size) == (1, 0)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        b"\xff" * 1000,
        LOG.note(600)[:-10],
        LOG.note(600) * 2,
        LOG.note(600) + b"\xe2\x80\x94 a AAAAAAA=\n" * 101,
        LOG.note(600).replace(b"\n600\n", b"\n0600\n"),
        LOG.note(600).replace(b"\n600\n", b"\n601\n"),
        b"a" * (1 << 21),
    ],
    ids=["empty", "lines", "bytes", "cut", "twice", "many", "zero", "size", "long"],
)
def test_what_is_no_checkpoint(tmp_path: Path, note: bytes) -> None:
    with served(Site({"checkpoint": note})) as url:
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, done.size) == (1, 0)
    assert [one.kind for one in done.findings] == ["unchecked"]


def test_a_log_without_an_end(tmp_path: Path) -> None:
    """Every tile holds, and there are more than anybody will ever read."""
    same = [leaf_hash(b"")]
    while len(same) <= 40:
        same.append(node_hash(same[-1], same[-1]))
    site = Site({"checkpoint": LOG.note(1 << 40, root=same[40])})
    site.respond = lambda path: (
        Answer(same[8 * int(path.split("/")[1])] * 256)
        if path.startswith("tile/") and "entries" not in path
        else None
    )
    with served(site) as url:
        begun = time.monotonic()
        rounds = [
            look(tmp_path / "m", url, policy=POLICY, max_time=0.3) for _ in range(2)
        ]
        assert time.monotonic() - begun < 20
    reached = [
        int(found[1])
        for done in rounds
        if (found := re.search(r"time is up after (\d+) of", str(done.findings)))
    ]
    assert [done.status for done in rounds] == [1, 1]
    assert 0 < reached[0] < reached[1], "the second round went on"
    written = sum(f.stat().st_size for f in (tmp_path / "m").rglob("*") if f.is_file())
    assert written < 40 * reached[1] + (1 << 20)


@pytest.mark.parametrize("size", [2**63 - 1, 2**40, 10**15])
def test_a_signed_size_that_is_made_up(tmp_path: Path, size: int) -> None:
    """The key is the log's own, and every tile that is asked for is there."""
    site = Site({"checkpoint": LOG.note(size, root=bytes(32))})
    site.respond = lambda path: (
        Answer(bytes(8192)) if path.startswith("tile/") else None
    )
    with served(site) as url:
        begun = time.monotonic()
        done = look(tmp_path / "m", url, policy=POLICY, max_time=1)
        assert time.monotonic() - begun < 20
        assert (done.status, done.size) in {(1, 0), (10, 0)}
    written = sum(f.stat().st_size for f in (tmp_path / "m").rglob("*") if f.is_file())
    assert written < 1 << 26


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"x" * 31), "expected 2816 bytes in tile/0/002.p/88, got 31"),
        (Answer(b"x" * 8193), "answered more than 8192 bytes"),
        (Answer(b""), "expected 2816 bytes in tile/0/002.p/88, got 0"),
        (Answer(b"", 302), "with status 302"),
        (Answer(b"", 204), "with status 204"),
        (Answer(b"", 503), "with status 503"),
        (Answer(b"", 404), "with status 404"),
    ],
    ids=["short", "long", "empty", "redirect", "no content", "busy", "absent"],
)
def test_a_tile_that_is_none(tmp_path: Path, answer: Answer, message: str) -> None:
    site = Site()
    site.show(LOG, 600)
    site.respond = lambda path: answer if path.startswith("tile/0/002") else None
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, done.size) == (1, 0)
        assert message in done.findings[0].text
        site.respond = lambda _: None
        assert look(tmp_path / "m", url, policy=POLICY).status == 0


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 600)
    site.respond = lambda path: (
        Answer(b"", 503)
        if path == "tile/0/001" and site.requests.count(path) == 1
        else None
    )
    with served(site) as url:
        assert look(tmp_path / "m", url, policy=POLICY).status == 0


def test_what_there_was_no_time_to_compare_comes_first_in_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, sizes = Site(), range(100, 104)
    with served(site) as url:
        site.show(LOG, 20)
        look(tmp_path / "m", url, policy=POLICY)
        for size in sizes:
            site.files = {"checkpoint": LOG.note(size)}
            look(tmp_path / "m", url, policy=POLICY)
        site.show(LOG, 20, keep=False)
        monkeypatch.setattr("auditlog.monitor.watch._PENDING_SECONDS", 0.0)
        rounds = [look(tmp_path / "m", url, policy=POLICY) for _ in sizes]
        told = [[one.subject for one in done.findings] for done in rounds]
        compared = [subjects[0].split()[1] for subjects in told]
        assert sorted(compared) == [str(size) for size in sizes]
        assert {(len(subjects), subjects[1]) for subjects in told} == {(2, "pending")}
        monkeypatch.undo()
        site.show(LOG, 110)
        assert look(tmp_path / "m", url, policy=POLICY).status == 0


def test_everything_fails_and_nothing_is_forgotten(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 300)
    with served(site) as url:
        look(tmp_path / "m", url, policy=POLICY)
        before = json.loads((tmp_path / "m" / "state.json").read_text())["followed"]
        site.respond = lambda _: Answer(b"", 500)
        assert look(tmp_path / "m", url, policy=POLICY).status == 1
        after = json.loads((tmp_path / "m" / "state.json").read_text())["followed"]
        assert after == before
        site.respond = lambda _: None
        site.show(LOG, 600)
        assert look(tmp_path / "m", url, policy=POLICY).size == 600


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    with served(Site()) as url:
        pass
    done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, [one.kind for one in done.findings]) == (1, ["unchecked"])


class TestBundles:
    ENTRIES = (b"", b"a", b"b" * 65_535)
    HASHES = tuple(leaf_hash(entry) for entry in ENTRIES)
    PLAIN = b"".join(len(one).to_bytes(2, "big") + one for one in ENTRIES)

    @pytest.mark.parametrize("data", [PLAIN, gzip.compress(PLAIN)], ids=["raw", "gzip"])
    def test_read(self, data: bytes) -> None:
        assert read_bundle(data, self.HASHES) == [*self.ENTRIES]
        assert read_bundle(data, self.HASHES[:2]) == [*self.ENTRIES[:2]]

    def test_an_entry_may_begin_like_gzip(self) -> None:
        entry = b"x" * 0x1F8B
        data = len(entry).to_bytes(2, "big") + entry
        assert data.startswith(b"\x1f\x8b")
        assert read_bundle(data, [leaf_hash(entry)]) == [entry]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            PLAIN[:-1],
            PLAIN[3:],
            b"\x1f\x8b",
            gzip.compress(PLAIN)[:-9],
            gzip.compress(gzip.compress(PLAIN)),
        ],
        ids=["empty", "cut", "late", "magic", "cut gzip", "twice"],
    )
    def test_refused(self, data: bytes) -> None:
        with pytest.raises(VerificationError, match="are not those of the tree"):
            read_bundle(data, self.HASHES)

    def test_a_bomb_is_not_unpacked(self) -> None:
        bomb = gzip.compress(bytes(4 * MAX_BUNDLE))
        tracemalloc.start()
        try:
            with pytest.raises(VerificationError, match="are not those of the tree"):
                read_bundle(bomb, self.HASHES)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * MAX_BUNDLE

    def test_longer_than_there_can_be(self) -> None:
        site = Site({"tile/entries/000": bytes(MAX_BUNDLE + 1)})
        with served(site) as url, pytest.raises(MalformedError, match="answered more"):
            Source(url, Terms(20)).bundle(Tile("entries", 0))


class TestToken:
    def test_only_the_log_is_shown_it_and_only_for_entries(
        self, tmp_path: Path
    ) -> None:
        site, mirror = Site(), Site()
        site.show(LOG, 600)
        mirror.show(LOG, 500)
        with served(site) as url, served(mirror) as other:
            done = look(
                tmp_path / "m", url, policy=POLICY, token="alt_1", vantages=[other]
            )
        assert done.entries
        given = {
            path
            for path, headers in zip(site.requests, site.headers, strict=True)
            if headers.get("Authorization") == "Bearer alt_1"
        }
        assert given == {p for p in site.requests if p.startswith("tile/entries/")}
        assert not any("Authorization" in headers for headers in mirror.headers)
        assert "alt_1" not in repr(Source(url, token="alt_1"))

    @pytest.mark.parametrize("status", [401, 403])
    def test_one_that_is_refused_is_told(self, tmp_path: Path, status: int) -> None:
        site = Site()
        site.show(LOG, 600)
        site.respond = lambda path: (
            Answer(b"", status) if path.startswith("tile/entries") else None
        )
        with served(site) as url:
            done = look(tmp_path / "m", url, policy=POLICY, token="alt_1")
            assert done.status == 1
            assert "the entries are not given" in done.findings[0].text
            assert "alt_1" not in str(done)
            assert look(tmp_path / "n", url, policy=POLICY).status == 0

    def test_entries_that_are_not_given_any_more(self, tmp_path: Path) -> None:
        site = Site()
        site.show(LOG, 500)
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            site.show(LOG, 600)
            site.drop("tile/entries/")
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, done.size) == (1, 500)
        assert "the entries are not given any more" in done.findings[0].text


def test_nobody_is_asked_after_a_stop() -> None:
    with served(Site({"checkpoint": b"x"})) as url:
        source = Source(url, Terms(5, lambda: True))
        with pytest.raises(Exception, match="we are to stop"):
            source.checkpoint()
    assert source.requests == 0


def test_absent_is_told_from_broken() -> None:
    with served(Site()) as url, pytest.raises(NotFoundError, match="status 404"):
        Source(url).tile(Tile(0, 1, 7))
