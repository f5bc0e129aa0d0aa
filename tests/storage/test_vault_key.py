"""The file of key-encryption keys: strict, never torn, and nothing stays of the old."""

import os
import stat
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.storage import vault_key
from auditlog.storage.files import read_secret
from auditlog.storage.vault_key import FixedKey, Generation, VaultKey
from tests.dying import every_death

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
MADE = 1_800_000_000_000_000


def line(key: bytes, *named: int) -> bytes:
    return b" ".join([b64encode(key), *(b"%d" % n for n in named)]) + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vault.key"
    _put(path, line(OLD))
    return path


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def _bytes_below(directory: Path) -> bytes:
    return b"".join(one.read_bytes() for one in sorted(directory.iterdir()))


def test_a_file_as_init_makes_it_is_generation_1(path: Path) -> None:
    assert VaultKey(path).known() == (Generation(OLD, 1, 0),)


def test_a_new_generation_comes_first_and_the_old_one_goes(path: Path) -> None:
    keys = VaultKey(path)
    assert keys.begin(NEW, MADE) == (NEW, 2, MADE)
    assert path.read_bytes() == line(NEW, 2, MADE) + line(OLD)
    assert VaultKey(path).known() == keys.known() == ((NEW, 2, MADE), (OLD, 1, 0))
    keys.retire()
    assert path.read_bytes() == line(NEW, 2, MADE)
    assert VaultKey(path).known() == keys.known() == ((NEW, 2, MADE),)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_to_retire_with_one_generation_changes_nothing(path: Path) -> None:
    before = path.stat().st_ino
    VaultKey(path).retire()
    assert path.stat().st_ino == before


def test_the_file_that_is_replaced_is_overwritten_on_the_disk(path: Path) -> None:
    with path.open("rb") as first:
        keys = VaultKey(path)
        keys.begin(NEW, MADE)
        assert first.read() == bytes(len(line(OLD)))
    with path.open("rb") as second:
        keys.retire()
        assert not any(second.read())
    assert b64encode(OLD) not in _bytes_below(path.parent)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("how", ["begin", "retire"])
def test_whoever_dies_while_changing_it_leaves_the_old_file_or_the_new_one(
    path: Path, how: str, torn: bool
) -> None:
    both = line(NEW, 2, MADE) + line(OLD)
    before, after = {
        "begin": (line(OLD), both),
        "retire": (both, line(NEW, 2, MADE)),
    }[how]

    def begin() -> Callable[[], object]:
        _put(path, before)
        return lambda: _change(VaultKey(path), how)

    seen = set()
    for _ in every_death(begin, torn=torn):
        seen.add(path.read_bytes())
        assert path.read_bytes() in (before, after)
        keys = VaultKey(path)
        keys.tidy()
        assert not keys.has_left_overs()
        if path.read_bytes() == before:
            _change(keys, how)
        assert path.read_bytes() == after
        assert list(path.parent.iterdir()) == [path]
    assert seen == {before, after}, "it was seen to die on both sides of the change"


def _change(keys: VaultKey, how: str) -> None:
    if how == "begin":
        keys.begin(NEW, MADE)
    else:
        keys.retire()


def test_what_was_left_over_is_overwritten_before_it_goes(path: Path) -> None:
    links = []
    for end in ("new", "old"):
        left_over = path.with_name(f"vault.key.{end}")
        _put(left_over, line(NEW, 2, MADE))
        links.append(left_over.open("rb"))
    VaultKey(path).tidy()
    for link in links:
        with link:
            assert link.read() == bytes(len(line(NEW, 2, MADE)))
    assert path.read_bytes() == line(OLD)


def test_a_reader_that_has_the_old_file_open_reads_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may see zeros in the middle of being replaced: it looks again."""
    seen: list[Path] = []

    def late(of: Path) -> bytes:
        seen.append(of)
        return bytes(45) if len(seen) == 1 else read_secret(of)

    monkeypatch.setattr(vault_key, "read_secret", late)
    assert VaultKey(path).known() == ((OLD, 1, 0),)
    assert len(seen) == 2


REFUSED = {
    "nothing": b"",
    "31 bytes": line(OLD[1:]),
    "33 bytes": line(OLD + b"x"),
    "no base64": b"!" * 44 + b"\n",
    "another spelling of base64": line(OLD).replace(b"8=\n", b"9=\n"),
    "generation 1 by name": line(OLD, 1, MADE),
    "a number without a time": line(OLD, 2),
    "a time of zero": line(OLD, 2, 0),
    "a number with a zero before it": line(OLD)[:-1] + b" 02 5\n",
    "a number of another script": line(OLD)[:-1] + " ٢ 5\n".encode(),
    "two spaces": line(OLD)[:-1] + b"  2 5\n",
    "an empty line between": line(NEW, 2, MADE) + b"\n" + line(OLD),
    "carriage returns": line(NEW, 2, MADE)[:-1] + b"\r\n" + line(OLD),
    "a line of something else": line(NEW, 2, MADE) + b"old\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_anything_else_is_refused_without_showing_it(path: Path, what: str) -> None:
    _put(path, REFUSED[what])
    with pytest.raises(ConfigurationError, match="does not hold 32 bytes in") as caught:
        VaultKey(path)
    assert b64encode(OLD)[:16].decode() not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        line(OLD) + line(OLD),
        line(OLD) + line(NEW, 2, MADE),
        line(NEW, 2, MADE) + line(OLD, 2, MADE),
        line(NEW, 3, MADE) + line(OLD, 2, MADE) + line(OLD),
    ],
)
def test_generations_out_of_order_are_refused(path: Path, data: bytes) -> None:
    _put(path, data)
    with pytest.raises(ConfigurationError, match="two with the newest first, got"):
        VaultKey(path)


def test_a_file_that_others_reach_is_refused_also_later(path: Path) -> None:
    keys = VaultKey(path)
    path.chmod(0o640)
    for look in (keys.reload, lambda: VaultKey(path)):
        with pytest.raises(ConfigurationError, match=r"permissions 0640.*chmod 600"):
            look()


def test_a_link_to_a_key_that_is_kept_elsewhere_stays_one(
    path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "secrets"
    elsewhere.mkdir()
    path.rename(elsewhere / "vault.key")
    path.symlink_to(elsewhere / "vault.key")
    keys = VaultKey(path)
    keys.begin(NEW, MADE)
    keys.retire()
    assert path.is_symlink()
    assert (elsewhere / "vault.key").read_bytes() == line(NEW, 2, MADE)
    assert sorted(tmp_path.iterdir()) == [elsewhere, path]


def test_a_directory_that_cannot_be_written_leaves_everything_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    keys = VaultKey(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refused)
        with pytest.raises(
            StorageError, match=r"cannot write .*Operation not permitted"
        ):
            keys.begin(NEW, MADE)
    assert keys.known() == VaultKey(path).known() == ((OLD, 1, 0),)
    assert list(path.parent.iterdir()) == [path]
    assert keys.begin(NEW, MADE).number == 2


def test_no_key_shows(path: Path) -> None:
    keys = VaultKey(path)
    shown = f"{keys!r} {keys.known()!r} {keys.known()[0]}"
    assert "Generation(1)" in shown
    for secret in (OLD.hex(), repr(OLD), b64encode(OLD).decode()):
        assert secret not in shown


def test_a_key_in_no_file_has_one_generation() -> None:
    assert FixedKey(OLD).known() == FixedKey(OLD).reload() == ((OLD, 1, 0),)
    with pytest.raises(ConfigurationError, match="of 32 bytes, got 31"):
        FixedKey(OLD[1:])
