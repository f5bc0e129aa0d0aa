"""Keys in memory: those that are used again and again stay, of others the newest few.

A log has one key of each day, and as many of subjects and of single decisions as it has
subjects and such decisions. So the former stay, and of the latter so many as decisions
at a time may need. Whoever drops a key here has it nowhere but in the keyring.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["MAX_HELD", "HeldKey", "HeldKeys", "Use"]

MAX_HELD = 4096
"""Keys that do not stay; several times as many as are accepted and not yet stored."""


class Use(NamedTuple):
    """What a key is for."""

    kind: str
    label: str

    def __repr__(self) -> str:
        """Name the kind: a label leads to one person."""
        return f"Use({self.kind})"


class HeldKey(NamedTuple):
    """A key in memory."""

    use: Use
    key_id: bytes
    key: bytes

    def __repr__(self) -> str:
        """Name the key, never show it."""
        return f"HeldKey({self.use.kind}, {self.key_id.hex()})"


class HeldKeys:
    """Keys by what they are for, and by their ids. Thread-safe.

    Args:
        staying: kinds of which every key stays.
        most: how many of other kinds do.
    """

    def __init__(self, staying: Iterable[str], most: int = MAX_HELD) -> None:
        self._staying = frozenset(staying)
        self._most = most
        self._lock = threading.Lock()
        # Guarded by _lock. A key that another one of its use has replaced is still
        # there by its id.
        self._stay: dict[bytes, HeldKey] = {}
        self._newest: OrderedDict[bytes, HeldKey] = OrderedDict()
        self._by_use: dict[Use, bytes] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._stay) + len(self._newest)

    def __repr__(self) -> str:
        """Say how many there are, never show one."""
        return f"HeldKeys({len(self)})"

    def add(self, held: HeldKey) -> None:
        """Hold a key, and give it from now on for this use."""
        with self._lock:
            self._by_use[held.use] = held.key_id
            if held.use.kind in self._staying:
                self._stay[held.key_id] = held
                return
            self._newest[held.key_id] = held
            self._newest.move_to_end(held.key_id)
            while len(self._newest) > self._most:
                self._remove(next(iter(self._newest)))

    def get(self, use: Use) -> HeldKey | None:
        """Return the key of this use, or None."""
        with self._lock:
            key_id = self._by_use.get(use)
            return None if key_id is None else self._used(key_id)

    def named(self, key_id: bytes) -> HeldKey | None:
        """Return the key with this id, or None."""
        with self._lock:
            return self._used(key_id)

    def retire(self, key_ids: Iterable[bytes]) -> None:
        """Give these keys for no use any more, only by their ids, until `drop`."""
        with self._lock:
            for key_id in key_ids:
                self._retire(key_id)

    def drop(self, key_ids: Iterable[bytes]) -> None:
        """Hold these keys no more; of those that are not here nothing happens."""
        with self._lock:
            for key_id in key_ids:
                self._remove(key_id)

    def _used(self, key_id: bytes) -> HeldKey | None:
        held = self._newest.get(key_id)
        if held is None:
            return self._stay.get(key_id)
        self._newest.move_to_end(key_id)
        return held

    def _remove(self, key_id: bytes) -> None:
        self._retire(key_id)
        self._stay.pop(key_id, None)
        self._newest.pop(key_id, None)

    def _retire(self, key_id: bytes) -> None:
        held = self._stay.get(key_id) or self._newest.get(key_id)
        if held is not None and self._by_use.get(held.use) == key_id:
            del self._by_use[held.use]
