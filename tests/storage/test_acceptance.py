"""The acceptance file: durable ahead of the store, read back by whoever comes next."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import StorageError
from auditlog.storage import IndexRow, SpoolItem
from auditlog.storage import acceptance as acceptance_module
from auditlog.storage.acceptance import (
    AcceptanceFile,
    _format_frame,
    _parse,
    accepted_items,
    accepted_under,
    has_forgotten,
    remove_accepted,
)
from tests.faults.stores import acknowledged_by, no_more_files_open

ID = bytes(range(16))
OTHER = bytes(range(16, 32))
CAPACITY = 1 << 20
HEADER = 29


def _item(number: int, size: int = 300) -> SpoolItem:
    row = IndexRow(None, number.to_bytes(16), "auditlog.decision.v1", 7, ID, number)
    return SpoolItem(b"e" * size, row, OTHER, os.urandom(size))


ITEMS = [_item(number) for number in range(20)]


@pytest.fixture
def file(tmp_path: Path) -> AcceptanceFile:
    return AcceptanceFile.create(tmp_path, ID)


def test_what_was_accepted_is_read_back_in_order(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    assert accepted_items(tmp_path, ID) == []
    assert file.append(ITEMS[:3])
    assert file.append(ITEMS[3:4])
    assert accepted_items(tmp_path, ID) == ITEMS[:4]
    file.close(clean=False)
    assert accepted_items(tmp_path, ID) == ITEMS[:4]


def test_items_without_content_and_with_every_field_come_back(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    full = IndexRow(None, ID, "t", 1, ID, 2**62, "/é", "m", "v", "completed")
    items = [SpoolItem(b"x", full), SpoolItem(b"y", full, ID, b"")]
    assert file.append(items)
    assert accepted_items(tmp_path, ID) == items


def test_the_next_round_hides_what_the_store_has(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    for one in ITEMS[:5]:
        assert file.append([one])
    file.clear()
    # Nothing is written to forget: the store is asked before anything is used.
    assert accepted_items(tmp_path, ID) == ITEMS[:5]
    assert file.append(ITEMS[5:6])
    assert accepted_items(tmp_path, ID) == ITEMS[5:6]


def test_what_was_erased_is_overwritten_when_the_store_has_the_rest(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    sealed, other = ITEMS[0].sealed, ITEMS[7].sealed
    assert sealed is not None
    assert other is not None
    assert has_forgotten(tmp_path, [sealed])
    assert file.append(ITEMS[:8])
    assert not has_forgotten(tmp_path, [b"nowhere", sealed])
    assert accepted_items(tmp_path, ID) == ITEMS[:8], "the store may not have it yet"
    file.clear()
    assert has_forgotten(tmp_path, [sealed, other])
    assert file.append(ITEMS[8:10])
    assert accepted_items(tmp_path, ID) == ITEMS[8:10]
    file.clear()
    assert accepted_items(tmp_path, ID) == ITEMS[8:10], "nobody asked again"


def test_the_file_never_grows_and_says_when_it_is_full(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    big = [_item(number, 100_000) for number in range(6)]
    assert [file.append([one]) for one in big] == [True] * 5 + [False]
    assert accepted_items(tmp_path, ID) == big[:5]
    assert file.append(ITEMS[:1])
    file.clear()
    assert file.append(big[5:])
    path = tmp_path / f"{ID.hex()}.accepted"
    assert path.stat().st_size == CAPACITY
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_far_too_large_is_not_even_framed(
    file: AcceptanceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of large bodies would cost a tenth of a second each, for nothing."""
    framed: list[object] = []
    monkeypatch.setattr(acceptance_module, "_format_frame", framed.append)
    assert not file.append([_item(0, CAPACITY)])
    assert framed == []


def test_closing_clean_leaves_nothing(file: AcceptanceFile, tmp_path: Path) -> None:
    assert file.append(ITEMS[:1])
    file.close(clean=True)
    file.close(clean=True)
    assert list(tmp_path.iterdir()) == []
    assert not file.append(ITEMS[:1])


def test_a_dead_ones_file_is_removed(file: AcceptanceFile, tmp_path: Path) -> None:
    file.close(clean=False)
    remove_accepted(tmp_path, ID)
    remove_accepted(tmp_path, ID)
    assert accepted_items(tmp_path, ID) == []


def test_there_is_one_file_for_an_emitter(file: AcceptanceFile, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot create .*\.accepted: File exists"):
        AcceptanceFile.create(tmp_path, ID)


def test_a_file_that_cannot_be_made_whole_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(acceptance_module, "sync_file", full)
    with pytest.raises(StorageError, match="disk full"):
        AcceptanceFile.create(tmp_path, ID)
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_name_is_not_durable_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise StorageError(f"cannot sync the directory {path}")

    monkeypatch.setattr(acceptance_module, "sync_directory", fail)
    with no_more_files_open(), pytest.raises(StorageError, match="cannot sync"):
        AcceptanceFile.create(tmp_path, ID)
    assert list(tmp_path.iterdir()) == []


def test_a_child_leaves_its_parents_file_alone(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    def work(say: Callable[[str], None]) -> None:
        strangers = [os.open(tmp_path, os.O_RDONLY) for _ in range(50)]
        assert not file.append(ITEMS[1:2])
        file.close(clean=True)
        for fd in strangers:
            os.fstat(fd)
        say("done")

    assert acknowledged_by(work) == ["done"]
    assert file.append(ITEMS[:1])
    assert accepted_items(tmp_path, ID) == ITEMS[:1]


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_what_went_to_a_file_without_its_name_does_not_count(
    file: AcceptanceFile, tmp_path: Path, how: str
) -> None:
    path = tmp_path / f"{ID.hex()}.accepted"
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
    if how == "replaced":
        path.write_bytes((tmp_path / "elsewhere").read_bytes())
    with pytest.raises(StorageError, match=r"\.accepted was removed or replaced"):
        file.append(ITEMS[:1])
    assert not file.append(ITEMS[:1])


def test_after_a_sync_that_failed_there_is_no_room_any_more(
    file: AcceptanceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sync would succeed, though the pages of the first are lost."""

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    assert file.append(ITEMS[:1])
    with monkeypatch.context() as patch:
        patch.setattr(acceptance_module, "_SYNCED", 0)
        patch.setattr(acceptance_module, "sync_file", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            file.append(ITEMS[1:2])
    file.clear()
    assert not file.append(ITEMS[2:3])


def test_what_hangs_while_the_file_is_left_to_others_does_not_count(
    file: AcceptanceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start may have read the file before the write was done."""
    hanging, go = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        hanging.set()
        go.wait(10)

    monkeypatch.setattr(acceptance_module, "_SYNCED", 0)
    monkeypatch.setattr(acceptance_module, "sync_file", hang)
    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(file.append, ITEMS[:1])
        assert hanging.wait(10)
        file.close(clean=False)
        go.set()
        with pytest.raises(StorageError, match="was left to others meanwhile"):
            appending.result(10)
    assert not file.append(ITEMS[:1])


def test_another_emitters_file_is_not_believed(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    assert file.append(ITEMS[:1])
    path = tmp_path / f"{ID.hex()}.accepted"
    path.rename(tmp_path / f"{OTHER.hex()}.accepted")
    assert accepted_items(tmp_path, OTHER) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a file with ten frames."""
    directory = tmp_path_factory.mktemp("written")
    file = AcceptanceFile.create(directory, ID)
    for one in ITEMS[:10]:
        assert file.append([one])
    file.close(clean=False)
    return (directory / f"{ID.hex()}.accepted").read_bytes()


@given(st.integers(min_value=0, max_value=8000), st.integers(1, 255))
def test_a_damaged_byte_costs_its_own_frame_and_adds_nothing(
    written: bytes, position: int, change: int
) -> None:
    data = bytearray(written)
    data[position] ^= change
    found = _parse(bytes(data), ID, Path("damaged"))
    at, lost = HEADER, []
    for item in ITEMS[:10]:
        size = len(_format_frame(0, 1, [item]))
        lost += [item] * (at <= position < at + size)
        at += size
    assert found == [item for item in ITEMS[:10] if item not in lost]


def test_a_torn_first_frame_of_a_round_brings_nothing_new(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    for one in ITEMS[:5]:
        assert file.append([one])
    path = tmp_path / f"{ID.hex()}.accepted"
    with path.open("r+b") as stream:
        stream.seek(HEADER)
        stream.write(_format_frame(crc32(ID), 2, ITEMS[5:6])[:100])
    # They were in the store before the second round began.
    assert accepted_items(tmp_path, ID) == ITEMS[1:5]


def test_a_file_of_a_later_release_is_refused(
    file: AcceptanceFile, tmp_path: Path
) -> None:
    """To take it for an empty one would lose what it holds."""
    path = tmp_path / f"{ID.hex()}.accepted"
    head = b"alogacpt\x02" + ID
    with path.open("r+b") as stream:
        stream.write(head + crc32(head).to_bytes(4))
    with pytest.raises(StorageError, match="has format version 2, this auditlog knows"):
        accepted_items(tmp_path, ID)


def test_a_frame_that_holds_no_items_is_refused(
    file: AcceptanceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance_module, "_encode", lambda _: b"\x93abc")
    assert file.append(ITEMS[:1])
    with pytest.raises(StorageError, match="holds no items at byte 29"):
        accepted_items(tmp_path, ID)


def test_what_a_key_seals_is_found_in_the_files_of_all_oldest_first(
    tmp_path: Path,
) -> None:
    keyed = [
        one._replace(key_id=key * 16, sealed=b"s")
        for one, key in zip(ITEMS[:4], (b"k", b"l", b"k", b"k"), strict=True)
    ]
    for emitter, items in ((bytes(16), keyed[2:]), (b"e" * 16, keyed[:2])):
        file = AcceptanceFile.create(tmp_path, emitter)
        assert file.append(items)
    (tmp_path / "stray.accepted").write_bytes(b"k" * 16)
    expected = sorted((keyed[0], keyed[2], keyed[3]), key=lambda one: one.row.id)
    assert accepted_under(tmp_path, b"k" * 16) == expected
    assert accepted_under(tmp_path, b"m" * 16) == []
