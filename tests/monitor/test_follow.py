"""A monitor goes along with a log that strangers serve, and knows it again."""

import functools
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.core.checkpoint import parse_policy
from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.monitor.fork import verify_fork
from auditlog.monitor.round import Round
from auditlog.monitor.state import StateDirectory
from tests.monitor.tiled import Answer, Key, Site, TiledLog, look, served
from tests.vectorset import own

ENTRIES = [b"entry %d" % i for i in range(1100)]
LOG = TiledLog(ENTRIES)
POLICY = LOG.policy()


def found(done: Round) -> list[str]:
    return [one.kind for one in done.findings]


def test_a_tree_of_strangers_is_rebuilt_step_by_step(tmp_path: Path) -> None:
    site = Site()
    with served(site) as url:
        for size in (0, 1, 2, 255, 256, 257, 511, 512, 700, 1024, 1100):
            site.show(LOG, size)
            done = look(tmp_path / "m", url, policy=POLICY)
            assert (done.status, found(done)) == (0, [])
            assert (done.size, done.root) == (size, LOG.root(size))
            assert (done.served, done.start, done.entries) == (size, 0, size > 0)
            assert done.foreign == size


def test_the_tree_of_foreign_vectors(tmp_path: Path) -> None:
    """70,000 leaves by Go's sumdb: our naive tiles are theirs, and are followed."""
    log = TiledLog([b"leaf-%d" % i for i in range(70_000)])
    site = Site(log.files(70_000))
    for vector in (
        *own("tiles_70000")["tiles"],
        *own("entry_bundles_70000")["bundles"],
    ):
        digest = hashlib.sha256(site.files[vector["path"]]).hexdigest()
        assert digest == vector["sha256"], vector["path"]
    roots = {one["size"]: one["root_hex"] for one in own("tree_roots")["vectors"]}
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=log.policy())
    assert done.root is not None
    assert (done.status, done.size, done.foreign) == (0, 70_000, 70_000)
    assert done.root.hex() == roots[70_000]


def test_a_plain_file_server_is_enough(tmp_path: Path) -> None:
    for path, data in LOG.files(700).items():
        (tmp_path / "site" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / path).write_bytes(data)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = look(tmp_path / "m", url, policy=POLICY)
        server.shutdown()
        thread.join()
    assert (done.status, done.size, done.root) == (0, 700, LOG.root(700))


def test_what_is_behind_is_not_asked_for_again(tmp_path: Path) -> None:
    site = Site()
    with served(site) as url:
        site.show(LOG, 1000)
        look(tmp_path / "m", url, policy=POLICY)
        site.requests.clear()
        site.show(LOG, 1010)
        assert look(tmp_path / "m", url, policy=POLICY).size == 1010
    assert set(site.requests) == {
        *("checkpoint", "tile/0/003.p/242", "tile/1/000.p/3"),
        "tile/entries/003.p/242",
    }


def test_only_tiles_of_the_signed_tree_are_asked_for(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 700)
    with served(site) as url:
        look(tmp_path / "m", url, policy=POLICY)
    assert set(site.requests) <= set(LOG.files(700))


def test_a_full_tile_stands_in_for_a_partial_one_that_was_deleted(
    tmp_path: Path,
) -> None:
    site = Site()
    with served(site) as url:
        site.show(LOG, 700)
        site.show(LOG, 1100)
        site.drop("tile/0/002.p/", "tile/entries/002.p/")
        site.files["checkpoint"] = LOG.note(700)  # from a cache
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, done.size, done.root) == (0, 700, LOG.root(700))


def test_bundles_may_come_as_gzip(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 600)
    site.zip_bundles()
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, done.size, done.entries) == (0, 600, True)


def test_without_bundles_the_tree_is_rebuilt_from_hashes(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 600)
    site.drop("tile/entries/")
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, done.size, done.entries) == (0, 600, False)


@pytest.mark.parametrize("pruned", [1, 2, 3])
def test_a_pruned_log_is_followed_from_where_it_begins(
    tmp_path: Path, pruned: int
) -> None:
    site = Site()
    gone = tuple(
        f"tile/{kind}/{i:03d}" for kind in ("0", "entries") for i in range(pruned)
    )
    with served(site) as url:
        for size in (1000, 1100):
            site.show(LOG, size)
            site.drop(*gone)
            done = look(tmp_path / "m", url, policy=POLICY)
            assert (done.status, found(done)) == (0, [])
            assert (done.size, done.root) == (size, LOG.root(size))
            assert done.start == 256 * pruned


def test_a_start_may_be_chosen(tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 1100)
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=POLICY, start=800)
    assert (done.status, done.size, done.start) == (0, 1100, 768)
    assert "tile/0/002" not in site.requests


class TestTheLogRewritesItsPast:
    @pytest.mark.parametrize(
        ("seen", "shown"), [(700, 700), (700, 1000), (257, 1100), (700, 600), (5, 6)]
    )
    def test_and_the_file_proves_it(
        self, tmp_path: Path, seen: int, shown: int
    ) -> None:
        site, liar = Site(), LOG.rewritten(3)
        with served(site) as url:
            site.show(LOG, seen)
            assert look(tmp_path / "m", url, policy=POLICY).status == 0
            site.show(liar, shown, keep=False)
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, found(done)) == (10, ["fork"])
        # It stays with the history that it knows.
        assert (done.size, done.root) == (seen, LOG.root(seen))
        (file,) = (tmp_path / "m").glob("fork-*.json")
        assert done.findings[0].file == file.name
        verdict = verify_fork(file.read_bytes(), parse_policy(POLICY))
        sizes = [verdict.a.checkpoint.size, verdict.b.checkpoint.size]
        assert sizes == sorted((seen, shown))

    def test_and_is_never_fine_again(self, tmp_path: Path) -> None:
        site = Site()
        with served(site) as url:
            statuses = []
            for log in (LOG, LOG.rewritten(3), LOG):
                site.show(log, 20, keep=False)
                statuses.append(look(tmp_path / "m", url, policy=POLICY).status)
        assert statuses == [0, 10, 10]

    def test_growing_lies_do_not_fill_the_disk(self, tmp_path: Path) -> None:
        site, liar = Site(), LOG.rewritten(3)
        with served(site) as url:
            site.show(LOG, 20)
            look(tmp_path / "m", url, policy=POLICY)
            for size in range(20, 30):
                site.show(liar, size)
                assert look(tmp_path / "m", url, policy=POLICY).status == 10
        assert len([*(tmp_path / "m").glob("fork-*.json")]) == 4

    def test_but_withholds_the_tiles(self, tmp_path: Path) -> None:
        """It cannot be proven yet; the signed view is kept, and proves it later."""
        site, liar = Site(), LOG.rewritten(3)
        with served(site) as url:
            site.show(LOG, 20)
            look(tmp_path / "m", url, policy=POLICY)
            site.files = {"checkpoint": liar.note(30)}
            done = look(tmp_path / "m", url, policy=POLICY)
            assert (done.status, set(found(done))) == (1, {"unchecked"})
            assert "size 20 and 30 cannot be compared" in done.findings[0].text
            # It goes back to the honest view, as if nothing had been.
            site.show(LOG, 40)
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, found(done), done.size) == (10, ["fork"], 40)

    def test_after_a_view_that_was_never_rebuilt(self, tmp_path: Path) -> None:
        """Both views go on from what is followed, and not from each other."""
        site, liar = Site(), LOG.rewritten(400)
        with served(site) as url:
            site.show(LOG, 300)
            look(tmp_path / "m", url, policy=POLICY)
            site.show(liar, 500)
            site.drop("tile/0/001.p/244")
            done = look(tmp_path / "m", url, policy=POLICY)
            assert (done.status, found(done), done.size) == (1, ["unchecked"], 300)
            site.show(LOG, 600, keep=False)
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, found(done), done.size) == (10, ["fork"], 600)

    def test_after_a_view_that_no_witness_cosigned(self, tmp_path: Path) -> None:
        site, liar = Site(), LOG.rewritten(400)
        policy = LOG.policy("w")
        with served(site) as url:
            site.show(LOG, 300)
            site.files["checkpoint"] = LOG.note(300, when=5)
            look(tmp_path / "m", url, policy=policy)
            site.show(liar, 500)
            done = look(tmp_path / "m", url, policy=policy)
            assert (done.status, found(done), done.size) == (13, ["untrusted"], 300)
            site.show(LOG, 600, keep=False)
            site.files["checkpoint"] = LOG.note(600, when=6)
            done = look(tmp_path / "m", url, policy=policy)
        assert (done.status, found(done), done.size) == (10, ["fork"], 600)


@pytest.mark.parametrize(("first", "second"), [(400, 400), (400, 450), (450, 400)])
def test_two_views_of_which_none_is_followed(
    tmp_path: Path, first: int, second: int
) -> None:
    """Both go on from what is followed, no witness cosigned them, they contradict."""
    site, policy = Site(), LOG.policy("w")
    with served(site) as url:
        site.show(LOG, 300)
        site.files["checkpoint"] = LOG.note(300, when=5)
        assert look(tmp_path / "m", url, policy=policy).status == 0
        site.show(LOG, first)
        assert look(tmp_path / "m", url, policy=policy).status == 13
        site.show(LOG.rewritten(350), second)
        done = look(tmp_path / "m", url, policy=policy)
    assert (done.status, done.size) == (10, 300)
    assert "fork" in found(done)


@pytest.mark.parametrize("followed", [0, 300])
def test_two_views_without_tiles(tmp_path: Path, followed: int) -> None:
    site = Site()
    with served(site) as url:
        if followed:
            site.show(LOG, followed)
            assert look(tmp_path / "m", url, policy=POLICY).status == 0
        site.files = {"checkpoint": LOG.note(400)}
        assert look(tmp_path / "m", url, policy=POLICY).status == 1
        site.files = {"checkpoint": LOG.rewritten(350).note(400)}
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, done.size) == (10, followed)
    assert "fork" in found(done)


def test_an_honest_log_that_grows_without_its_witness(tmp_path: Path) -> None:
    site, policy = Site(), LOG.policy("w")
    with served(site) as url:
        site.show(LOG, 300)
        site.files["checkpoint"] = LOG.note(300, when=5)
        look(tmp_path / "m", url, policy=policy)
        for size in (400, 450, 600):
            site.show(LOG, size)
            done = look(tmp_path / "m", url, policy=policy)
            assert (done.status, found(done)) == (13, ["untrusted"])
        site.files["checkpoint"] = LOG.note(600, when=6)
        done = look(tmp_path / "m", url, policy=policy)
    assert (done.status, found(done), done.size) == (0, [], 600)


def test_an_older_view_is_told_and_is_no_proof(tmp_path: Path) -> None:
    site = Site()
    with served(site) as url:
        site.show(LOG, 700)
        look(tmp_path / "m", url, policy=POLICY)
        site.show(LOG, 600)
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, found(done), done.size) == (12, ["stale"], 700)
    assert "proves nothing" in done.findings[0].text
    assert not [*(tmp_path / "m").glob("fork-*")]


class TestWhatIsServedContradictsWhatWasSigned:
    @pytest.mark.parametrize(
        ("path", "at", "message"),
        [
            ("tile/0/001", 0, "the leaf hashes that .* serves do not give the root"),
            ("tile/1/000.p/2", 40, "tile/1/000.p/2 is not what the tiles below it"),
            ("tile/entries/001", 9, "the entries served are not those of the tree"),
        ],
    )
    def test_a_wrong_tile(
        self, tmp_path: Path, path: str, at: int, message: str
    ) -> None:
        site = Site()
        site.show(LOG, 600)
        if not path.startswith("tile/entries"):
            site.drop("tile/entries")
        data = bytearray(site.files[path])
        data[at] ^= 1
        site.files[path] = bytes(data)
        with served(site) as url:
            rounds = [look(tmp_path / "m", url, policy=POLICY) for _ in range(2)]
            for done in rounds:
                assert (done.status, set(found(done))) == (10, {"suspicion"})
                assert (done.size, done.root) == (0, None)
            assert [*(tmp_path / "m").glob("fork-*")] == []
            assert len([*(tmp_path / "m").glob("suspicion-*")]) == 1
            suspicion = rounds[0].findings[0]
            assert re.search(message, suspicion.text)
            kept = json.loads((tmp_path / "m" / str(suspicion.file)).read_text())
            assert kept["a"] == LOG.note(600).decode()
            site.show(LOG, 600)
            assert look(tmp_path / "m", url, policy=POLICY).size == 600

    def test_a_tile_that_is_another_one_when_it_is_asked_for_again(
        self, tmp_path: Path
    ) -> None:
        """What compares well is not what is then rebuilt from."""
        site = Site()
        site.show(LOG, 300)
        site.drop("tile/entries/")
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            site.show(LOG, 600)
            site.drop("tile/entries/")
            site.requests.clear()
            good = site.files["tile/0/001"]
            site.respond = lambda path: (
                Answer(bytes(32) + good[32:])
                if path == "tile/0/001" and site.requests.count(path) > 1
                else None
            )
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, set(found(done)), done.size) == (10, {"suspicion"}, 300)
        assert "begins with other hashes than before" in done.findings[0].text

    def test_tiles_of_another_tree(self, tmp_path: Path) -> None:
        site = Site()
        with served(site) as url:
            site.show(LOG, 300)
            look(tmp_path / "m", url, policy=POLICY)
            site.show(LOG.rewritten(3), 600)
            site.files["checkpoint"] = LOG.note(600)
            done = look(tmp_path / "m", url, policy=POLICY)
        # The tiles are no proof: the log signed nothing about them.
        assert (done.status, found(done)) == (10, ["suspicion"])
        assert "do not give the root that was signed at size 600" in str(done.findings)
        kept = json.loads((tmp_path / "m" / str(done.findings[0].file)).read_text())
        assert f"{url}/tile/1/000.p/2" in kept["received"]


class TestWhom:
    def test_no_key_of_the_policy(self, tmp_path: Path) -> None:
        site = Site()
        site.show(TiledLog(ENTRIES, "other.example/log"), 20)
        with served(site) as url:
            done = look(tmp_path / "m", url, policy=POLICY)
        assert (done.status, found(done), done.size) == (13, ["untrusted"], 0)

    def test_the_quorum_is_asked_of_what_is_followed(self, tmp_path: Path) -> None:
        site = Site()
        with served(site) as url:
            site.show(LOG, 20)
            done = look(tmp_path / "m", url, policy=LOG.policy("w"))
            assert (done.status, found(done), done.size) == (13, ["untrusted"], 0)
            assert "does not meet the quorum 'w'" in done.findings[0].text
            site.files["checkpoint"] = LOG.note(20, when=7)
            done = look(tmp_path / "m", url, policy=LOG.policy("w"))
            assert (done.status, done.size) == (0, 20)
            # Whoever signs a fork without witnesses has forked all the same.
            site.show(LOG.rewritten(3), 21)
            done = look(tmp_path / "m", url, policy=LOG.policy("w"))
        assert (done.status, found(done)) == (10, ["fork"])

    def test_cosignatures_that_come_later_are_kept(self, tmp_path: Path) -> None:
        site = Site()
        with served(site) as url:
            site.show(LOG, 20)
            look(tmp_path / "m", url, policy=POLICY)
            site.files["checkpoint"] = LOG.note(20, when=7)
            look(tmp_path / "m", url, policy=POLICY)
        kept = json.loads((tmp_path / "m" / "state.json").read_text())
        assert kept["followed"]["note"] == LOG.note(20, when=7).decode()


class TestState:
    def test_two_monitors_on_one_directory_refuse_each_other(
        self, tmp_path: Path
    ) -> None:
        with (
            StateDirectory(tmp_path / "m"),
            served(Site()) as url,
            pytest.raises(StorageError, match="locked by another process"),
        ):
            look(tmp_path / "m", url, policy=POLICY)

    def test_a_directory_of_another_log(self, tmp_path: Path) -> None:
        other = TiledLog(ENTRIES, "other.example/log")
        other.key = Key(other.origin, seed=b"o" * 32)
        both = other.policy().replace("quorum", f"log {LOG.key.vkey}\nquorum")
        site = Site()
        site.show(LOG, 3)
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            with pytest.raises(ConfigurationError, match="follows log"):
                look(tmp_path / "m", url, policy=both, origin=other.origin)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: text[:-9], "expected JSON"),
            (lambda text: text.replace('"size":3', '"size":4'), "do not give the root"),
            (lambda text: text.replace("monitor.v1", "monitor.v2"), "another schema"),
            (lambda text: text.replace('"told"', '"said"'), "with the fields"),
            (lambda text: text.replace('"size":3', '"size":"3"'), "the root that was"),
        ],
        ids=["cut", "size", "schema", "field", "type"],
    )
    def test_a_damaged_state_is_refused(
        self, tmp_path: Path, change: object, message: str
    ) -> None:
        site = Site()
        site.show(LOG, 3)
        site.drop("tile/entries")
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            file = tmp_path / "m" / "state.json"
            file.write_text(change(file.read_text()))  # type: ignore[operator]
            with pytest.raises(ConfigurationError, match=message):
                look(tmp_path / "m", url, policy=POLICY)

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace('"marks"', '"remarks"'),
            lambda text: text.replace('"emitters":{}', '"emitters":[]'),
            lambda text: text.replace('"marks":[]', '"marks":[[1]]'),
        ],
        ids=["field", "list", "pair"],
    )
    def test_a_damaged_account_is_refused(
        self, tmp_path: Path, change: Callable[[str], str]
    ) -> None:
        site = Site()
        site.show(LOG, 3)
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            file = tmp_path / "m" / "state.json"
            text = file.read_text()
            assert change(text) != text
            file.write_text(change(text))
            with pytest.raises(ConfigurationError, match="move it away to begin anew"):
                look(tmp_path / "m", url, policy=POLICY)

    def test_a_state_under_a_policy_that_does_not_believe_it(
        self, tmp_path: Path
    ) -> None:
        site = Site()
        site.show(LOG, 3)
        other = TiledLog([], "other.example/log").policy()
        with served(site) as url:
            look(tmp_path / "m", url, policy=POLICY)
            with pytest.raises(ConfigurationError, match="an origin of the policy"):
                look(tmp_path / "m", url, policy=other)

    def test_what_a_kill_left_behind_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / ".state.json.0123.tmp").write_bytes(b"half")
        with StateDirectory(tmp_path / "m"):
            assert [*(tmp_path / "m").glob(".*")] == []

    def test_time_is_up_and_the_next_round_goes_on(self, tmp_path: Path) -> None:
        site, log = Site(), TiledLog([b"entry %d" % i for i in range(5000)])
        site.show(log, 5000)
        with served(site) as url:
            rounds = [
                look(tmp_path / "m", url, policy=POLICY, max_time=-1) for _ in range(3)
            ]
        said = [str(done.findings) for done in rounds]
        assert "time is up after 2048 of 5000 entries" in said[0]
        assert "time is up after 4096 of 5000 entries" in said[1]
        assert [(done.status, done.size) for done in rounds] == [
            *((1, 0), (1, 0)),
            (0, 5000),
        ]
        assert (rounds[2].root, rounds[2].foreign) == (log.root(5000), 5000)

    def test_progress_under_a_view_that_was_taken_back_is_given_up(
        self, tmp_path: Path
    ) -> None:
        """Half rebuilt, the log shows another history: told, and never mixed up."""
        site, liar = Site(), LOG.rewritten(400)
        with served(site) as url:
            site.show(liar, 500)
            site.drop("tile/entries")
            look(tmp_path / "liar", url, policy=POLICY)
            site.show(LOG, 300)
            site.drop("tile/entries")
            look(tmp_path / "m", url, policy=POLICY)
            wrong = json.loads((tmp_path / "liar" / "state.json").read_text())
            file = tmp_path / "m" / "state.json"
            state = json.loads(file.read_text())
            state["progress"] = wrong["followed"]
            del state["progress"]["note"]
            text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
            file.write_text(text)
            site.show(LOG, 600)
            site.drop("tile/entries")
            rounds = [look(tmp_path / "m", url, policy=POLICY) for _ in range(2)]
        assert [(done.status, done.size) for done in rounds] == [(10, 300), (0, 600)]
        assert found(rounds[0]) == ["suspicion"]
