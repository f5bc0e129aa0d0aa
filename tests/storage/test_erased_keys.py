"""The list of erased keys: it only grows, survives a crash, and is strictly read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import ConfigurationError, MalformedError, StorageError
from auditlog.storage.erased_keys import ErasedKeys, parse_erased

ONE, TWO, THREE = (bytes([n]) * 16 for n in (1, 2, 3))


@pytest.fixture
def listed(tmp_path: Path) -> ErasedKeys:
    return ErasedKeys(tmp_path / "erased")


def test_keys_stand_in_the_order_of_their_erasure_each_once(listed: ErasedKeys) -> None:
    assert listed.read() == []
    assert not listed.path.exists()
    listed.add([TWO])
    listed.add([ONE, TWO])
    assert listed.read() == [TWO, ONE]
    assert listed.path.read_text() == f"{'02' * 16}\n{'01' * 16}\n"
    assert listed.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", range(1, 33))
def test_a_line_that_was_cut_is_left_out_and_then_removed(
    listed: ErasedKeys, size: int
) -> None:
    listed.add([ONE])
    with listed.path.open("ab") as file:
        file.write((TWO.hex() + "\n").encode()[:size])
    assert listed.read() == [ONE]
    listed.add([THREE])
    assert listed.read() == [ONE, THREE]
    assert listed.path.stat().st_size == 66


@pytest.mark.parametrize(
    "data",
    [
        b"\n" * 33,
        b"0" * 33,
        b"0" * 31 + b"A\n",
        b"0" * 32 + b"\r",
        b"0" * 32 + b"\n" + b"x",
        b"0" * 31 + b"\n" + b"0" * 32 + b"\n",
    ],
)
def test_anything_else_is_refused_and_left_as_it_is(
    listed: ErasedKeys, data: bytes
) -> None:
    listed.add([])
    listed.path.write_bytes(data)
    for act in (listed.read, lambda: listed.add([ONE])):
        with pytest.raises(MalformedError, match="erased: expected ids of erased keys"):
            act()
    assert listed.path.read_bytes() == data


@given(st.binary(max_size=100))
def test_any_bytes_are_a_list_or_our_error(data: bytes) -> None:
    try:
        found = parse_erased(data)
    except MalformedError:
        return
    assert all(len(one) == 16 for one in found)


def test_who_is_not_its_owner_may_not_reach_it(listed: ErasedKeys) -> None:
    listed.add([ONE])
    listed.path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="erased has permissions 0640"):
        listed.read()


def test_a_link_in_its_place_is_not_followed(listed: ErasedKeys) -> None:
    listed.path.symlink_to("elsewhere")
    with pytest.raises(StorageError, match=r"cannot open .*erased"):
        listed.add([ONE])


def test_news_are_what_came_in_since_they_were_asked_for(listed: ErasedKeys) -> None:
    assert listed.news() == []
    other = ErasedKeys(listed.path)
    other.add([ONE])
    assert (listed.news(), listed.news()) == ([ONE], [])
    with listed.path.open("ab") as file:
        file.write(b"01")
    assert listed.news() == []
    other.add([TWO, THREE])
    assert listed.news() == [TWO, THREE]


def test_of_a_list_from_a_backup_all_is_news(listed: ErasedKeys) -> None:
    listed.add([ONE, TWO])
    assert listed.news() == [ONE, TWO]
    listed.path.write_text(f"{THREE.hex()}\n")
    assert listed.news() == [THREE]
    listed.path.unlink()
    assert listed.news() == []


def test_news_that_are_none_are_refused_once(listed: ErasedKeys) -> None:
    listed.add([ONE])
    listed.path.write_text("x" * 66)
    with pytest.raises(MalformedError, match="expected ids of erased keys"):
        listed.news()
    assert listed.news() == []
