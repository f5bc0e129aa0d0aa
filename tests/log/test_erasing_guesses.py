"""Who has everything that is left, and a list of all names, cannot tell who it was.

The attacker has the directory, every key that is in it, and the name among others. The
same attacks do find it while the person is there, so that they can fail.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditlog.core.commitment import disclosure_hash, leaf_salt
from auditlog.core.merkle import leaf_hash
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import canonical_json, parse_entry
from auditlog.log.content import Content, unpack
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import (
    Erased,
    erase,
    erasure_receipt,
    plan_erasure,
)
from auditlog.log.finishing import finish
from auditlog.log.leader import make_checkpoint
from auditlog.log.parts import Hashed, Salted
from auditlog.storage import ERASED
from auditlog.storage.sealing import unseal
from tests.log.builders import now_us
from tests.log.erasures import ADA, BOB, fill, made

NAMES = [f"person{n}@example.org" for n in range(200)]
NAMES[77:77] = [ADA]


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    log = made(tmp_path / "audit")
    fill(log)
    return log


def _erase(log: LogDirectory, person: str = ADA) -> Erased:
    plan = plan_erasure(log, "person", person, now_us())
    done = erase(log, plan, now=now_us(), reason="asked on paper")
    assert finish(log, now_us(), wait=5) == 1
    make_checkpoint(log)
    assert log.store._database.truncate()
    return done


def _by_label(log: LogDirectory) -> Iterator[str]:
    """Blind each name as the store does, and look for it in every file."""
    found = log.store.key_slot("index", "")
    assert found is not None
    key = log.keys.key(found[0])
    files = [one for one in log.paths.directory.rglob("*") if one.is_file()]
    held = b"".join(one.read_bytes() for one in files)
    for name in NAMES:
        label = hmac.digest(key, b"\6person" + name.encode(), "sha256")
        if label.hex().encode() in held or label in held or label[:16] in held:
            yield name


def _by_commitment(log: LogDirectory) -> Iterator[str]:
    """Open all that opens, and hash each name with every salt that it leads to."""
    for index, entry in enumerate(log.store.read(0, log.store.size())):
        stored = log.store.sealed(index)
        if stored is None or stored[0] == ERASED:
            continue
        key = log.keys.key(stored[0])
        content = unpack(unseal(key, stored[0], leaf_hash(entry), stored[1]))
        kept, hashes = _salts(content), _hashes(content)
        for name in NAMES:
            value = canonical_json({"id": name, "kind": "person"})
            guesses = {disclosure_hash(one, "context/subject", value) for one in kept}
            if guesses & hashes or name.encode() in entry:
                yield name


def _salts(content: Content) -> list[bytes]:
    """Return every salt that kept content leads to."""
    if content.secret is not None:
        return [leaf_salt(content.secret, number) for number in range(8)]
    assert content.salts is not None
    leaves = content.salts.leaves
    salted = [one.salt for one in leaves if isinstance(one, Salted)]
    assert len(salted) == len(leaves) - 1, "but for that of the subject"
    return [content.salts.first, *salted]


def _hashes(content: Content) -> set[bytes]:
    """Return the hashes that are kept of leaves whose values are not."""
    leaves = () if content.salts is None else content.salts.leaves
    capped = {part.leaf_hash for part in content.parts if part.leaf_hash is not None}
    return capped | {one.hash for one in leaves if isinstance(one, Hashed)}


def _by_hash(log: LogDirectory) -> Iterator[str]:
    """Look for unsalted hashes of each name."""
    held = b"".join(log.store.read(0, log.store.size()))
    held += log.paths.database.read_bytes()
    for name in NAMES:
        for hash_ in (hashlib.sha256, hashlib.sha1, hashlib.md5):
            digest = hash_(name.encode()).digest()
            texts = (digest, digest.hex().encode(), base64.b64encode(digest))
            if any(text in held for text in texts):
                yield name


ATTACKS = [_by_label, _by_commitment, _by_hash]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_is_confirmed_by_what_is_left(
    log: LogDirectory, attack: Callable[[LogDirectory], Iterator[str]]
) -> None:
    _erase(log)
    assert set(attack(log)) == set()


def test_the_label_would_be_found_while_the_person_is_there(log: LogDirectory) -> None:
    assert log.store._database.truncate()
    assert set(_by_label(log)) == {ADA}


def test_the_commitment_would_be_found_if_the_salt_were_kept(
    log: LogDirectory,
) -> None:
    proof = _erase(log).proof
    assert proof is not None
    _, path, salt, _ = proof.disclosure
    guesses = {
        name: disclosure_hash(
            salt, path, canonical_json({"id": name, "kind": "person"})
        )
        for name in NAMES
    }
    hits = [name for name, guess in guesses.items() if guess in proof.opening.hashes]
    assert hits == [ADA]


def test_the_salt_is_in_the_receipt_and_nowhere_else(log: LogDirectory) -> None:
    done = _erase(log)
    assert done.proof is not None
    salt = done.proof.disclosure.salt
    [told] = parse_receipt(
        erasure_receipt(log, done.id, done.proof.disclosure)
    ).disclosures
    assert told.salt == salt
    files = [one for one in log.paths.directory.rglob("*") if one.is_file()]
    held = b"".join(one.read_bytes() for one in files)
    assert salt not in held
    assert repr(done).count("Proof()") == 1
    assert ADA not in repr(done)


def test_no_size_tells_how_long_the_name_was(log: LogDirectory) -> None:
    short, long = "a", "a" * 3000
    sizes = []
    for person in (short, long):
        log.keys.subject_key("person", person)
        done = _erase(log, person)
        row = log.store.by_id(bytes.fromhex(done.id.replace("-", "")))
        assert row is not None
        assert row.index is not None
        stored = log.store.sealed(row.index)
        assert stored is not None
        [entry] = log.store.read(row.index, row.index + 1)
        sizes.append((len(entry), len(stored[1])))
    assert sizes[0] == sizes[1]


def test_no_tag_is_that_of_a_key_that_is_left(log: LogDirectory) -> None:
    plan = plan_erasure(log, "person", ADA, now_us())
    about = log.store.sealed_under(plan.key_id)
    _erase(log)
    keys = [log.keys.key(one) for one, *_ in log.store.registered_keys()]
    assert len(keys) == 3
    for index in about:
        entry = parse_entry(*log.store.read(index, index + 1))
        for key in keys:
            told = b"auditlog/subject-tag/v1\n" + key + entry.id
            for hash_ in (hashlib.shake_128, hashlib.shake_256):
                tag = base64.urlsafe_b64encode(hash_(told).digest(16)).decode()
                assert tag.rstrip("=") != entry.subject


def test_the_entry_names_no_decision(log: LogDirectory) -> None:
    done = _erase(log)
    row = log.store.by_id(bytes.fromhex(done.id.replace("-", "")))
    assert row is not None
    assert row.about is None
    assert row.index is not None
    data = json.loads(log.store.read(row.index, row.index + 1)[0])["data"]
    assert sorted(data) == ["commitment", "key", "request", "response", "state"]
    assert plan_erasure(log, "person", BOB, now_us()).records == 5
