"""The log's directory: created whole or not at all, opened only if complete."""

import base64
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from auditlog.config import Config
from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.errors import ConfigurationError, NotFoundError, StorageError
from auditlog.core.note import ED25519, ML_DSA_44, Signer, make_signer, parse_skey
from auditlog.storage.erased_keys import ErasedKeys
from auditlog.storage.files import (
    FileLock,
    read_secret,
    storage_errors,
    sync_directory,
    write_durably,
)
from auditlog.storage.keyring import Keyring
from auditlog.storage.keys import Keys
from auditlog.storage.sqlite import SqliteStore
from auditlog.storage.vault_key import KEK_BYTES, VaultKey

__all__ = ["LogDirectory", "Paths", "create_log", "ensure_log", "open_log"]

_SEED_BYTES = 32


class Paths:
    """Where things are in a log's directory."""

    def __init__(self, directory: Path) -> None:
        """Name the files below `directory`; nothing is touched."""
        self.directory = directory
        self.database = directory / "log.sqlite3"
        self.log_key = directory / "keys" / "log.key"
        self.vault_key = directory / "keys" / "vault.key"
        self.keyring = directory / "keys" / "keyring"
        self.erased = directory / "keys" / "erased"
        self.journals = directory / "journal"
        self.policy = directory / "policy"
        self.anchors = directory / "anchors.toml"
        self.anchor_lock = directory / "anchors.lock"
        self.vkeys = directory / "vkeys"
        self.place = directory / "place"
        self.published = directory / "published"
        self.init_lock = directory / "init.lock"
        self.initialising = directory / "initialising"
        self.leader_lock = directory / "sequencer.lock"


@dataclass(slots=True)
class LogDirectory:
    """An opened log: its name, its keys, its stores."""

    paths: Paths
    origin: str
    signers: tuple[Signer, ...] = field(repr=False)
    store: SqliteStore = field(repr=False)
    keys: Keys = field(repr=False)
    policy_path: Path
    """Where the operator's policy is."""
    vault_key: VaultKey | None = field(default=None, repr=False)
    """Generations of the key-encryption key, where they are in a file."""

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Verifier keys of the log, Ed25519 first."""
        return tuple(signer.verifier.vkey for signer in self.signers)

    def policy(self) -> Policy:
        """Read the operator's policy: the log's own keys and the witnesses to ask.

        Raises:
            ConfigurationError: there is none.
            MalformedError: it does not follow tlog-policy.
        """
        return parse_policy(_read_text(self.policy_path))

    def claim(self) -> None:
        """Make sure that this is the log itself, before anything is added to it.

        A copy is refused while the log that it was made of stands where it stood: two
        that go on would fork the log. A restored or moved log takes the place of the
        old one. What cannot be seen from here, such as a copy on another host or in
        another container, is seen by the first witness that is asked by both.

        Raises:
            ConfigurationError: this is a copy.
            StorageError: the directory cannot be read or written.
        """
        here = self.paths.directory.resolve()
        there = _read_place(self.paths.place)
        if there == here:
            return
        if there is not None and _is_copy(self.paths, Paths(there)):
            msg = (
                f"{here} is a copy of the log in {there}, which is still there, and "
                "two that go on would fork it: remove one of them, or only the file "
                f"{self.paths.place} to go on here and nowhere else"
            )
            raise ConfigurationError(msg)
        write_durably(self.paths.place, os.fsencode(here) + b"\n", mode=0o644)

    def close(self) -> None:
        """Close the stores."""
        self.store.close()

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stores."""
        self.close()


def create_log(config: Config) -> LogDirectory:
    """Make keys and an empty log; several processes may try at once.

    Raises:
        ConfigurationError: a log, or a part of one, is already there.
    """
    paths = Paths(config.dir)
    with _init_lock(paths):
        _clear_left_over(paths)
        if _present(paths):
            msg = f"{config.dir} already holds a log, or a part of one"
            raise ConfigurationError(msg)
        _create(paths, config.origin)
    return open_log(config.dir, policy=config.policy)


def ensure_log(config: Config) -> tuple[LogDirectory, bool]:
    """Open the log, creating it where neither key nor data exists.

    Returns:
        The log, and whether this call created it.
    """
    paths = Paths(config.dir)
    created = False
    with _init_lock(paths):
        _clear_left_over(paths)
        if not _present(paths):
            _create(paths, config.origin)
            created = True
    log = open_log(config.dir, policy=config.policy)
    if config.origin is not None and config.origin != log.origin:
        log.close()
        msg = (
            f"the log in {config.dir} is named {log.origin!r} for ever; option "
            f"'origin' says {config.origin!r}: name another directory for a new log"
        )
        raise ConfigurationError(msg)
    return log, created


def open_log(
    directory: Path, *, policy: Path | None = None, read_only: bool = False
) -> LogDirectory:
    """Open a complete log.

    Args:
        directory: where it is.
        policy: the operator's policy file; None takes the one in the directory.
        read_only: refuse to write.

    Raises:
        ConfigurationError: no log is there, or a key or the data is missing.
    """
    paths = Paths(directory)
    _check_complete(paths)
    store = SqliteStore(paths.database, read_only=read_only)
    try:
        signers = _read_signers(paths.log_key, store.origin)
        vault_key = VaultKey(paths.vault_key)
        listed = ErasedKeys(paths.erased)
        keys = Keys(Keyring(paths.keyring, vault_key), store, listed)
        # Of a store that was restored this is the memory.
        keys.bar(listed.news())
    except BaseException:
        store.close()
        raise
    return LogDirectory(
        paths, store.origin, signers, store, keys, policy or paths.policy, vault_key
    )


def _init_lock(paths: Paths) -> FileLock:
    directory = paths.directory.absolute()
    new = [one for one in (directory, *directory.parents) if not one.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot create the log's directory {directory}: {error.strerror}"
        raise ConfigurationError(msg) from None
    _sync_names_of(new)
    return FileLock(paths.init_lock)


def _sync_names_of(directories: Sequence[Path]) -> None:
    """Make the names of new directories durable, where we may read their parents."""
    for directory in directories:
        if os.access(directory.parent, os.R_OK):
            sync_directory(directory.parent)


def _present(paths: Paths) -> list[Path]:
    return [p for p in (paths.database, paths.log_key, paths.vault_key) if p.exists()]


def _check_complete(paths: Paths) -> None:
    present = _present(paths)
    missing = {paths.database, paths.log_key, paths.vault_key} - set(present)
    if not present:
        msg = f"no log in {paths.directory}: create one with `auditlog init`"
        raise NotFoundError(msg)
    if missing:
        names = ", ".join(sorted(str(p.relative_to(paths.directory)) for p in missing))
        msg = (
            f"the log in {paths.directory} is incomplete: {names} missing; restore it "
            "from your backup, or name another directory for a new log"
        )
        raise ConfigurationError(msg)


def _clear_left_over(paths: Paths) -> None:
    """Remove what an `init` that died half-way left: nothing was accepted yet."""
    if not paths.initialising.exists():
        return
    # The mark of a log in use came back, as after a power cut: only the mark goes.
    if not _has_entries(paths.database):
        with storage_errors(f"clear {paths.directory}"):
            for path in _left_over(paths):
                path.unlink(missing_ok=True)
    _finish(paths)


def _has_entries(database: Path) -> bool:
    if not database.exists():
        return False
    with SqliteStore(database, read_only=True) as store:
        return store.size() > 0


def _left_over(paths: Paths) -> list[Path]:
    database, keys = paths.database, paths.log_key.parent
    ends = ("-wal", "-shm", ".new", ".new-wal", ".new-shm", ".new.lock")
    siblings = [database.with_name(database.name + end) for end in ends]
    unnamed = [*paths.directory.glob(".*.tmp"), *keys.glob(".*.tmp")]
    return [*_present(paths), *siblings, *unnamed, paths.keyring]


def _finish(paths: Paths) -> None:
    with storage_errors(f"remove {paths.initialising}"):
        paths.initialising.unlink()
    sync_directory(paths.directory)


def _create(paths: Paths, origin: str | None) -> None:
    origin = origin or f"auditlog.invalid/{os.urandom(8).hex()}"
    signers = [
        make_signer(origin, kind, os.urandom(_SEED_BYTES))
        for kind in (ED25519, ML_DSA_44)
    ]
    vkeys = [signer.verifier.vkey for signer in signers]
    write_durably(paths.initialising, b"")
    # Somebody who died may have made it before us.
    _sync_names_of([paths.directory.absolute()])
    with storage_errors(f"create directories in {paths.directory}"):
        paths.log_key.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        paths.journals.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    write_durably(paths.directory / ".gitignore", b"*\n", mode=0o644)
    _write_lines(paths.log_key, [signer.skey for signer in signers], 0o600)
    kek = base64.b64encode(os.urandom(KEK_BYTES)).decode()
    _write_lines(paths.vault_key, [kek], 0o600)
    _write_lines(paths.vkeys, vkeys, 0o644)
    if not paths.policy.exists() or _is_left_over(paths.policy):
        _write_lines(paths.policy, _first_policy(vkeys), 0o644)
    SqliteStore.create(paths.database, origin).close()
    _finish(paths)


def _first_policy(vkeys: list[str]) -> list[str]:
    return [
        "# Whom this log asks to cosign, as a tlog-policy (c2sp.org/tlog-policy).",
        "# Add a line `witness NAME VKEY URL` for each witness, and name the quorum.",
        *(f"log {vkey}" for vkey in vkeys),
        "quorum none",
    ]


def _is_left_over(policy: Path) -> bool:
    """Return whether a policy is as an `init` made it that died: its keys are gone."""
    lines = _read_text(policy).splitlines()
    keys = [line.removeprefix("log ") for line in lines if line.startswith("log ")]
    return lines == _first_policy(keys)


def _write_lines(path: Path, lines: list[str], mode: int) -> None:
    write_durably(path, "".join(f"{line}\n" for line in lines).encode(), mode=mode)


def _read_place(path: Path) -> Path | None:
    try:
        return Path(os.fsdecode(path.read_bytes().removesuffix(b"\n")))
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise StorageError(msg) from None


def _is_copy(one: Paths, other: Paths) -> bool:
    try:
        same_keys = one.vkeys.read_bytes() == other.vkeys.read_bytes()
        return same_keys and not one.database.samefile(other.database)
    except (OSError, ValueError):
        return False


def _read_signers(path: Path, origin: str) -> tuple[Signer, ...]:
    lines = read_secret(path).decode("ascii", "replace").splitlines()
    signers = tuple(parse_skey(line) for line in lines)
    names = {signer.verifier.name for signer in signers}
    if names != {origin}:
        msg = f"{path} holds keys named {sorted(names)}, but the log is {origin!r}"
        raise ConfigurationError(msg)
    return signers


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"no policy file at {path}"
        raise ConfigurationError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the policy file {path}: {error}"
        raise ConfigurationError(msg) from None
