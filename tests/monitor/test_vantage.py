"""One log seen from several places: whoever is shown something else shows it to all."""

import hashlib
from pathlib import Path

import pytest

from auditlog.core.checkpoint import parse_policy
from auditlog.monitor.fork import verify_fork
from auditlog.monitor.round import Round
from tests.monitor.tiled import ORIGIN, Key, Site, TiledLog, look, served

LOG = TiledLog([b"entry %d" % i for i in range(700)])
LIAR = LOG.rewritten(300)
POLICY = LOG.policy()
NAMED = hashlib.sha256(ORIGIN.encode()).hexdigest()


def found(done: Round) -> list[str]:
    return [one.kind for one in done.findings]


def site_of(log: TiledLog, size: int) -> Site:
    site = Site()
    site.show(log, size)
    return site


def proven(directory: Path) -> set[tuple[int, bytes]]:
    """Size and root of the views that the fork files of a directory prove."""
    views = set()
    for file in directory.glob("fork-*.json"):
        verdict = verify_fork(file.read_bytes(), parse_policy(POLICY))
        views |= {
            (v.checkpoint.size, v.checkpoint.root) for v in (verdict.a, verdict.b)
        }
    return views


@pytest.mark.parametrize("size", [1, 256, 400, 600])
def test_a_mirror_that_is_behind_agrees(tmp_path: Path, size: int) -> None:
    mirror = site_of(LOG, size)
    with served(site_of(LOG, 600)) as url, served(mirror) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert (done.status, found(done)) == (0, [])
    assert done.vantages == ((other, size),)


@pytest.mark.parametrize("size", [301, 512, 600, 650])
def test_a_split_view_is_proven(tmp_path: Path, size: int) -> None:
    with served(site_of(LOG, 600)) as url, served(site_of(LIAR, size)) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert done.status == 10
    assert "fork" in found(done)
    # The monitor goes on with the view that the log shows to it.
    assert (done.size, done.root) == (600, LOG.root(600))
    views = {(600, LOG.root(600)), (size, LIAR.root(size))}
    assert proven(tmp_path / "m") == views


def test_a_witness_shows_checkpoints_only(tmp_path: Path) -> None:
    """Its monitoring path is named by the origin; the log has the tiles."""
    witness = Site({f"{NAMED}/checkpoint": LIAR.note(512, when=9)})
    with served(site_of(LOG, 600)) as url, served(witness) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[f"{other}/"])
    assert (done.status, found(done)) == (10, ["fork"])
    assert done.vantages == ((f"{other}/{NAMED}", 512),)
    (file,) = (tmp_path / "m").glob("fork-*.json")
    verdict = verify_fork(file.read_bytes(), parse_policy(POLICY))
    assert [(w.name, when) for w, when in verdict.a.cosignatures] == [("w", 9)]


def test_a_witness_that_is_ahead_in_another_history(tmp_path: Path) -> None:
    """Nobody serves its tiles: it waits until the log's own tree is as large."""
    site = site_of(LOG, 400)
    witness = Site({f"{NAMED}/checkpoint": LIAR.note(512)})
    with served(site) as url, served(witness) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, set(found(done))) == (1, {"unchecked"})
        assert "size 400 and 512 cannot be compared" in str(done.findings)
        witness.files = {}
        site.show(LOG, 600)
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert (done.status, found(done)) == (10, ["unchecked", "fork"])
    assert proven(tmp_path / "m") == {(600, LOG.root(600)), (512, LIAR.root(512))}


def test_the_log_keeps_its_newest_view_from_us(tmp_path: Path) -> None:
    with served(site_of(LOG, 400)) as url, served(site_of(LOG, 600)) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert (done.status, found(done)) == (12, ["stale"])
    assert f"{url} shows size 400; size 600 was seen elsewhere" in done.findings[0].text
    assert done.size == 400


def test_a_view_that_only_the_vantage_point_had_is_remembered(tmp_path: Path) -> None:
    """It went on from what we follow; then the log itself goes on to elsewhere."""
    site, other_site, liar = site_of(LOG, 200), Site(), LOG.rewritten(300)
    other_site.show(liar, 400)
    with served(site) as url, served(other_site) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, found(done)) == (12, ["stale"])
        site.show(LOG, 600)
        done = look(tmp_path / "m", url, policy=POLICY)
    assert (done.status, found(done)) == (10, ["fork"])
    assert proven(tmp_path / "m") == {(600, LOG.root(600)), (400, liar.root(400))}


def test_a_log_that_has_just_grown_is_asked_again(tmp_path: Path) -> None:
    site = site_of(LOG, 600)
    asked: list[str] = []

    def respond(path: str) -> None:
        asked.append(path)
        old = asked.count("checkpoint") == 1
        site.files["checkpoint"] = LOG.note(400 if old else 600)

    site.respond = respond
    with served(site) as url, served(site_of(LOG, 600)) as other:
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert (done.status, done.size) == (0, 600)


def test_two_vantage_points_of_which_one_lies(tmp_path: Path) -> None:
    with (
        served(site_of(LOG, 600)) as url,
        served(site_of(LOG, 500)) as honest,
        served(site_of(LIAR, 500)) as lying,
    ):
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[honest, lying])
    assert (done.status, found(done)) == (10, ["fork"])
    assert proven(tmp_path / "m") == {(600, LOG.root(600)), (500, LIAR.root(500))}


def test_a_view_that_cannot_be_compared_shields_no_other(tmp_path: Path) -> None:
    site = site_of(LOG, 400)
    witness = Site({f"{NAMED}/checkpoint": LIAR.note(350)})
    with served(site) as url, served(witness) as other:
        look(tmp_path / "m", url, policy=POLICY)
        site.files = {"checkpoint": LOG.note(600)}
        done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
    assert (done.status, set(found(done))) == (10, {"unchecked", "fork"})
    assert proven(tmp_path / "m") == {(400, LOG.root(400)), (350, LIAR.root(350))}


class TestSaysNothingAgainstTheLog:
    def test_a_vantage_point_that_does_not_answer(self, tmp_path: Path) -> None:
        with served(site_of(LOG, 600)) as url, served(Site()) as other:
            done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, found(done), done.size) == (1, ["unchecked"], 600)
        assert "status 404" in done.findings[0].text

    def test_one_that_shows_another_log(self, tmp_path: Path) -> None:
        foreign = TiledLog(LOG.entries, "other.example/log")
        with served(site_of(LOG, 600)) as url, served(site_of(foreign, 5)) as other:
            done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, found(done), done.size) == (13, ["untrusted"], 600)

    def test_one_that_shows_another_log_of_the_policy(self, tmp_path: Path) -> None:
        foreign = TiledLog(LOG.entries, "other.example/log")
        foreign.key = Key(foreign.origin, seed=b"o" * 32)
        both = f"log {foreign.key.vkey}\n{POLICY}"
        with served(site_of(LOG, 600)) as url, served(site_of(foreign, 5)) as other:
            done = look(tmp_path / "m", url, policy=both, vantages=[other])
        assert (done.status, found(done), done.size) == (13, ["untrusted"], 600)
        assert "got one of another log" in done.findings[0].text

    def test_one_that_makes_up_a_checkpoint(self, tmp_path: Path) -> None:
        forged = bytearray(LOG.note(600))
        forged[len(ORIGIN) + 8] ^= 1
        with (
            served(site_of(LOG, 600)) as url,
            served(Site({"checkpoint": bytes(forged)})) as other,
        ):
            done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, done.size) == (1, 600)
        assert [*(tmp_path / "m").glob("*-*.json")] == []

    def test_one_that_serves_wrong_tiles_for_an_honest_checkpoint(
        self, tmp_path: Path
    ) -> None:
        mirror = site_of(LIAR, 600)
        mirror.files["checkpoint"] = LOG.note(600)
        with served(site_of(LOG, 700)) as url, served(mirror) as other:
            done = look(tmp_path / "m", url, policy=POLICY, vantages=[other])
        assert (done.status, found(done)) == (0, [])
