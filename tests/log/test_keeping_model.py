"""Keys made, erased, rotated, backed up, lost, restored, and processes that die.

Whatever the order, a log that is opened anew says of its keys what a model says.
"""

import os
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.core.errors import ConfigurationError
from auditlog.log import rotating
from auditlog.log.backing import back_up, restore
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.key_entry import KEY
from auditlog.log.losing import declare_lost
from auditlog.log.rotating import finish, rotate
from auditlog.storage import Query
from auditlog.storage.sealing import SLOT_SIZE
from tests.dying import dies_at
from tests.erasing import erase_key
from tests.log.builders import config_of, now_us

DAY = 86_400_000_000


class Copy(NamedTuple):
    """A backup that was made, as the model knows it."""

    path: Path
    generation: int
    keys: frozenset[bytes]


class Model:
    """A log in a directory of its own, and what must be true of its keys."""

    def __init__(self, place: Path) -> None:
        self.place, self.directory = place, place / "audit"
        self.live: dict[bytes, bytes] = {}
        self.erased: dict[bytes, tuple[int, bytes]] = {}
        self.lost: dict[bytes, tuple[int, bytes]] = {}
        self.copies: list[Copy] = []
        self.retired: list[bytes] = []
        self.generation, self.files = 1, 0
        create_log(config_of(self.directory)).close()

    @contextmanager
    def log(self) -> Iterator[LogDirectory]:
        with open_log(self.directory) as log:
            yield log

    def kek(self) -> bytes:
        text = (self.directory / "keys" / "vault.key").read_bytes()
        return b64decode(text.split()[0])

    # --- what may happen --------------------------------------------------------------

    def make(self, number: int) -> None:
        with self.log() as log:
            found = log.keys.subject_key("person", f"p{number % 6}")
            self.live.update([found])
            self._learn(log)

    def erase(self, number: int) -> None:
        with self.log() as log:
            people = [key for key in log.store.registered_keys() if key[2] == "subject"]
            if people:
                key_id, slot, *_ = people[number % len(people)]
                self.erased[key_id] = slot, self.live.pop(key_id)
                erase_key(log, key_id)
                # The entry about it may have had the first key of its day made.
                self._learn(log)

    def rotate(self, _: int) -> None:
        before = self.kek()
        with self.log() as log:
            done = rotate(log, now_us())
        assert not done.begun_before
        self._rotated(before)

    def back_up(self, _: int) -> None:
        path = self._file()
        with self.log() as log:
            if self.live or self.erased:
                made = back_up(log, path, DAY, now_us())
                assert (made.keys, made.damaged) == (len(self.live), 0)
                self.copies.append(Copy(path, self.generation, frozenset(self.live)))

    def restore(self, number: int) -> None:
        """Restore any backup over a keyring that is whole."""
        if not self.copies:
            return
        copy = self.copies[number % len(self.copies)]
        with self.log() as log:
            if copy.generation != self.generation:
                with pytest.raises(ConfigurationError, match="another key-encryption"):
                    restore(log, copy.path, now_us())
                return
            done = restore(log, copy.path, now_us())
        gone = len(copy.keys & (self.erased.keys() | self.lost.keys()))
        assert done[1:] == (0, len(copy.keys) - gone, gone, 0)

    def lose(self, number: int) -> None:
        """Lose the keyring, where a backup has all of it, and put it back."""
        whole = [copy for copy in self.copies if self.live.keys() <= copy.keys]
        fitting = [copy for copy in whole if copy.generation == self.generation]
        if not fitting or not self.live:
            return
        keyring = self.directory / "keys" / "keyring"
        size = keyring.stat().st_size
        if number % 3 == 0:
            keyring.unlink()
        else:
            keyring.write_bytes(b"" if number % 3 == 1 else os.urandom(size))
        copy = fitting[number % len(fitting)]
        with self.log() as log:
            done = restore(log, copy.path, now_us())
        assert (done.restored, done.missing) == (len(self.live), 0)

    def give_up(self, number: int) -> None:
        """Lose the key of one person, and declare it lost."""
        with self.log() as log:
            people = [key for key in log.store.registered_keys() if key[2] == "subject"]
            if people:
                key_id, slot, *_ = people[number % len(people)]
                with log.keys.keyring.writing() as writer:
                    writer.destroy([slot])
                assert declare_lost(log, now_us()).key_ids == (key_id,)
                self.lost[key_id] = slot, self.live.pop(key_id)

    def die(self, number: int) -> None:
        """Die at some step of one of these; what it was about is seen afterwards."""
        kind, step = number % 4, number // 4 % 40
        before, path = self.kek(), self._file()
        copy = self.copies[number % len(self.copies)] if self.copies else None
        if kind == 3 and (copy is None or copy.generation != self.generation):
            kind = 0
        work: list[Callable[[LogDirectory], object]] = [
            lambda log: rotate(log, now_us()),
            lambda log: log.keys.subject_key("person", f"p{number % 6}"),
            lambda log: back_up(log, path, DAY, now_us()),
            lambda log: restore(log, copy.path if copy else path, now_us()),
        ]
        if kind == 2 and not (self.live or self.erased):
            return
        dies_at(step, lambda: work[kind](open_log(self.directory)))
        with self.log() as log:
            self._learn(log)
            assert {one: log.keys.key(one) for one in self.live} == self.live
            finish(log)
        if path.exists():
            self.copies.append(Copy(path, self.generation, frozenset(self.live)))
        if self.kek() != before:
            self._rotated(before)

    def _learn(self, log: LogDirectory) -> None:
        for key_id, *_ in log.store.registered_keys():
            self.live.setdefault(key_id, log.keys.key(key_id))

    def _rotated(self, before: bytes) -> None:
        self.retired.append(before)
        self.generation += 1

    def _file(self) -> Path:
        self.files += 1
        return self.place / f"copy-{self.files}"

    # --- what must be true ------------------------------------------------------------

    def check(self) -> None:
        with self.log() as log:
            registered = {key[0]: key[1] for key in log.store.registered_keys()}
            assert registered.keys() == self.live.keys()
            assert {one: log.keys.key(one) for one in self.live} == self.live
            assert not self.live.keys() & (self.erased.keys() | self.lost.keys())
            assert log.vault_key is not None
            assert [one.number for one in log.vault_key.known()] == [self.generation]
            told = len(log.store.find(Query(type=KEY)))
            assert told >= self.generation - 1 + len(self.copies)
            raw = log.keys.keyring.raw()
        slots = [raw[at : at + SLOT_SIZE] for at in range(0, len(raw), SLOT_SIZE)]
        for slot, key in [*self.erased.values(), *self.lost.values()]:
            assert slots[slot : slot + 1] in ([], [bytes(SLOT_SIZE)])
            assert key not in raw
        keys = self.directory / "keys"
        left = b"".join(one.read_bytes() for one in sorted(keys.iterdir()))
        assert not any(kek in left for kek in self.retired)
        text = (keys / "vault.key").read_bytes().split()[0]
        assert b64decode(text) not in self.retired
        names = {one.name for one in keys.iterdir()}
        assert names - {"erased", "keyring"} == {"log.key", "vault.key"}


EVENTS = ("make", "erase", "rotate", "back_up", "restore", "lose", "give_up", "die")


@pytest.fixture(autouse=True, scope="module")
def _small_pages() -> Iterator[None]:
    """Two keys under one lock, so that a rotation has several pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotating, "_PAGE", 2)
        yield


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*EVENTS, "make", "back_up", "die"]), st.integers(0, 10_000)
        ),
        min_size=6,
        max_size=14,
    )
)
def test_the_keys_are_as_the_model_says_after_any_sequence(
    events: list[tuple[str, int]],
) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        model = Model(place)
        for name, number in events:
            getattr(model, name)(number)
            model.check()
        with model.log() as log:
            report = check_log(log)
            assert (report.problems, report.unchecked) == ((), ())
    finally:
        shutil.rmtree(place)
