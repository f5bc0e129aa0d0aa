"""From exchange to spool item: describe, commit, seal; no queue, no thread.

Under which key: that of whom the decision is about, if that is known; else one of its
own, if the operator wants that; else that of the day. Under the first two the entry's
tag is made of the key (`FORMATS.md` §5), else it is random, and nothing tells which.
"""

import base64
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from zstandard import ZstdCompressor

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import MalformedError, NotFoundError
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import DECISION, Entry, format_entry, parse_id
from auditlog.log.content import WORTH_COMPRESSING, Content, pack
from auditlog.log.description import SUBJECT_BYTES, Describer
from auditlog.log.model_entry import model_entry
from auditlog.log.subjects import look_into_bodies
from auditlog.models.identity import Model
from auditlog.storage import IndexRow, SpoolItem
from auditlog.storage.keys import Renewed, subject_tag
from auditlog.storage.sealing import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from auditlog.capture.subjects import Subject

__all__ = [
    "Preparation",
    "SealingKeys",
    "epoch_of",
    "index_row",
    "plain_item",
    "sealed_item",
]

_R_BYTES = 32
_SECRET_BYTES = 32
_DRAWN = struct.Struct(f"{_R_BYTES}s{SUBJECT_BYTES}s")
"""What is random in one item: r of its sealing, and a blinded subject."""
_ZSTD_LEVEL = -1
"""Half the time of level 1 on a body of 1 KiB, for a fifth more bytes."""
_DAY = 86_400_000_000
"""Microseconds."""


class SealingKeys(Protocol):
    """Where the key to seal under comes from; see `auditlog.storage.keys.Keys`."""

    def epoch_key(self, label: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of the epoch, creating it on first use."""

    def key(self, key_id: bytes) -> bytes:
        """Return the key with this id."""

    def kind(self, key_id: bytes) -> str | None:
        """Return what a key is for; None if it is not registered."""

    def subject_keys(
        self, subjects: Sequence[tuple[str, str]]
    ) -> Sequence[tuple[bytes, bytes]]:
        """Return (key id, key) of each subject, creating all that are new at once."""

    def record_keys(self, ids: Sequence[bytes]) -> Sequence[tuple[bytes, bytes]]:
        """Return (key id, key) for each decision alone, likewise."""

    def renew(self, key_id: bytes) -> Renewed | None:
        """Return what is in place of a key that was erased; None if it is gone."""

    def forget(self, key_ids: Iterable[bytes]) -> None:
        """Drop keys from memory that were erased."""

    def heed(self) -> None:
        """Give no key any more that was erased since, by whatever process."""

    def settled(self) -> None:
        """Forget what `heed` has found: all that was sealed is in the store."""


class Preparation:
    """Turns exchanges of one emitter into sealed spool items. Single-threaded.

    Whoever gives up the interpreter lock while an event loop is busy waits up to 5 ms
    for it. So randomness is drawn for a batch, and where somebody waits for the item
    small bodies are not compressed: the library gives up the lock for each.
    """

    def __init__(
        self,
        describer: Describer,
        keys: SealingKeys,
        *,
        compress_from: int = WORTH_COMPRESSING,
    ) -> None:
        """Take the describer of the emitter and the keyring of the log.

        Args:
            describer: of the emitter.
            keys: of the log.
            compress_from: bytes of a value that is worth compressing.
        """
        self._describer = describer
        self._keys = keys
        self._compress_from = compress_from
        self._compressor = ZstdCompressor(level=_ZSTD_LEVEL)
        self._drawn: Iterator[tuple[bytes, bytes]] = iter(())
        self._batch: dict[Subject | bytes, tuple[bytes, bytes]] = {}
        """Keys of the batch, by subject or by the id of a decision alone."""

    def begin(self, exchanges: Sequence[Exchange]) -> None:
        """Get ready for a batch: its randomness, its subjects, and their keys at once.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: there are no keys to seal under now.
        """
        self._keys.heed()
        self._drawn = _DRAWN.iter_unpack(os.urandom(_DRAWN.size * len(exchanges)))
        for exchange in exchanges:
            look_into_bodies(exchange)
        subjects = [one.subject for one in exchanges if one.subject is not None]
        alone = [one.id for one in exchanges if one.subject is None and one.own_key]
        self._batch.clear()
        # One that was destroyed in its place stops its own decision, and no other.
        with suppress(NotFoundError):
            found = self._keys.subject_keys(subjects)
            self._batch.update(zip(subjects, found, strict=True))
        with suppress(NotFoundError):
            found = self._keys.record_keys(alone)
            self._batch.update(zip(alone, found, strict=True))

    def prepare(self, exchange: Exchange) -> SpoolItem:
        """Return the entry of an exchange with its sealed content.

        Raises:
            StorageError: there is no key to seal under now.
        """
        look_into_bodies(exchange)
        # Taken before it is used: nothing of it is ever used twice.
        drawn = next(self._drawn, None)
        r, tag = drawn or (os.urandom(_R_BYTES), os.urandom(SUBJECT_BYTES))
        own = self._own_key(exchange)
        key_id, key = own or self._keys.epoch_key(epoch_of(exchange.time))
        if own is not None:
            tag = subject_tag(key, exchange.id)
        entry, row, content = self._describer.describe(exchange, tag)
        plaintext = pack(content, self._compressor, self._compress_from)
        sealed = seal(key, key_id, leaf_hash(entry), r, plaintext)
        return SpoolItem(entry, row, key_id, sealed)

    def _own_key(self, exchange: Exchange) -> tuple[bytes, bytes] | None:
        """Return (key id, key) of whom it is about, or of it alone; None for neither.

        Raises:
            StorageError: there is no key to seal under now.
        """
        subject = exchange.subject
        if subject is not None:
            return self._batch.get(subject) or self._keys.subject_keys([subject])[0]
        if exchange.own_key:
            id_ = exchange.id
            return self._batch.get(id_) or self._keys.record_keys([id_])[0]
        return None

    def seal_again(self, item: SpoolItem) -> SpoolItem | None:
        """Return an item, whose key was erased, sealed under the one in its place.

        The entry stays, because it was acknowledged, and so does its tag, which the new
        key does not give.

        Returns:
            None if the key is not in memory: then nothing opens it any more.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: there is no key to seal under now.
        """
        assert item.key_id is not None
        assert item.sealed is not None
        renewed = self._keys.renew(item.key_id)
        if renewed is None:
            return None
        leaf = leaf_hash(item.entry)
        plaintext = unseal(renewed.old, item.key_id, leaf, item.sealed)
        r = os.urandom(_R_BYTES)
        sealed = seal(renewed.key, renewed.key_id, leaf, r, plaintext)
        return item._replace(key_id=renewed.key_id, sealed=sealed)

    def forget(self, key_ids: Iterable[bytes]) -> None:
        """Drop keys that were erased: nothing is sealed or opened under them again."""
        self._batch.clear()
        self._keys.forget(key_ids)

    @property
    def keys(self) -> SealingKeys:
        """Where the keys come from."""
        return self._keys

    @property
    def unwritten(self) -> dict[bytes, Model]:
        """See `Describer.unwritten`."""
        return self._describer.unwritten

    def prepare_model(self, model: Model, time: int) -> SpoolItem:
        """Return the entry about a model, with what is sealed of it.

        Args:
            model: the model.
            time: microseconds since the epoch.

        Raises:
            StorageError: there is no key to seal under now.
        """
        secret = os.urandom(_SECRET_BYTES)
        entry, content = model_entry(model, self._describer.origin, time, secret)
        if content is None:
            return plain_item(entry)
        return sealed_item(entry, content, self._keys, self._compressor)


def plain_item(entry: Entry) -> SpoolItem:
    """Return the spool item of an entry without content."""
    return SpoolItem(format_entry(entry), index_row(entry))


def sealed_item(
    entry: Entry,
    content: Content,
    keys: SealingKeys,
    compressor: ZstdCompressor,
    *,
    under: bytes | None = None,
) -> SpoolItem:
    """Return the spool item of an entry of ours with its sealed content.

    Args:
        entry: the entry.
        content: what its commitment covers.
        keys: of the log.
        compressor: for values.
        under: id of the key to seal under, of a subject or of the
            entry alone; None takes that of the epoch.

    Raises:
        NotFoundError: the key was erased meanwhile.
        StorageError: there is no key to seal under now.
    """
    item = plain_item(entry)
    if under is None:
        key_id, key = keys.epoch_key(epoch_of(entry.time))
    else:
        key_id, key = under, keys.key(under)
    plaintext = pack(content, compressor)
    sealed = seal(key, key_id, leaf_hash(item.entry), os.urandom(_R_BYTES), plaintext)
    return item._replace(key_id=key_id, sealed=sealed)


def index_row(entry: Entry) -> IndexRow:
    """Return what the index holds of an entry.

    Raises:
        KeyError: a decision lacks what each has.
        MalformedError: the decision that it is about has no id.
    """
    data = entry.data
    if entry.type != DECISION:
        about = _decision_of(data)
        return IndexRow(None, entry.id, entry.type, entry.time, about=about)
    return IndexRow(
        None,
        entry.id,
        entry.type,
        entry.time,
        base64.b64decode(data["emitter"]),
        data["sequence"],
        data.get("http.route", data.get("operation")),
        data.get("model.name"),
        data.get("model.version"),
        data["outcome"],
    )


def _decision_of(data: Mapping[str, Any]) -> bytes | None:
    """Return the id of the decision that an entry names; None if it names none."""
    named = data.get("decision")
    if named is None:
        return None
    if not isinstance(named, str):
        raise MalformedError("expected the id of a decision as text")
    return parse_id(named)


def epoch_of(time_us: int) -> str:
    """Return the label of the key under which content of that time is sealed."""
    return _epoch(time_us // _DAY)


@lru_cache(maxsize=4)
def _epoch(day: int) -> str:
    """Return the retention epoch of a day since 1970, UTC: its date."""
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
