"""The directory of a witness: created whole or not at all, opened only if complete.

``witness.key`` (private keys, 0600), ``witness.sqlite3`` (what it has seen), ``vkeys``
(public keys, one a line), ``.gitignore``. A key without its state, or a state without
its key, is refused: a witness that forgot would contradict itself.
"""

import os
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ML_DSA_44,
    Signer,
    make_signer,
    parse_skey,
)
from auditlog.storage.files import (
    FileLock,
    read_secret,
    storage_errors,
    sync_directory,
    write_durably,
)
from auditlog.storage.witness_state import WitnessState

__all__ = ["WitnessDirectory", "init_witness", "open_witness_directory"]

_TYPES = (COSIGNATURE_ED25519, ML_DSA_44)
_SEED_BYTES = 32
_KEY = "witness.key"
_STATE = "witness.sqlite3"
_INITIALISING = "initialising"


class WitnessDirectory(NamedTuple):
    """An opened witness."""

    state: WitnessState
    signers: tuple[Signer, ...]
    """Ed25519 first, then ML-DSA-44, under one name."""


def init_witness(directory: Path, name: str) -> list[str]:
    """Make the keys and the empty state of a new witness, and return its vkeys.

    Args:
        directory: where; created if missing, otherwise it must hold no witness.
        name: key name, such as ``witness.example/w1``; a schema-less URL is customary.

    Raises:
        ConfigurationError: a witness is there already, or `name` is no key name.
        StorageError: the directory cannot be written; run it again.
    """
    signers = _new_signers(name)
    with storage_errors(f"create {directory}"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(directory / "init.lock"):
        _clear_left_over(directory)
        present = [name for name in (_KEY, _STATE) if (directory / name).exists()]
        if present:
            raise ConfigurationError(
                f"{directory} already holds a witness ({' and '.join(present)}): "
                "expected a directory for a new one"
            )
        write_durably(directory / _INITIALISING, b"")
        _write(directory, signers)
        _finish(directory)
    return [signer.verifier.vkey for signer in signers]


def open_witness_directory(directory: Path) -> WitnessDirectory:
    """Open a complete witness.

    Raises:
        ConfigurationError: there is none, a part is missing or belongs to another
            witness, or others can read the keys.
    """
    if (directory / _INITIALISING).exists() or not directory.is_dir():
        raise ConfigurationError(
            f"no complete witness in {directory}: create one with "
            "`auditlog witness init`"
        )
    signers = _read_signers(directory / _KEY)
    state = WitnessState(directory / _STATE)
    vkeys = tuple(signer.verifier.vkey for signer in signers)
    if state.vkeys != vkeys:
        state.close()
        raise ConfigurationError(
            f"the keys and the state in {directory} belong to two witnesses"
        )
    return WitnessDirectory(state, signers)


def _new_signers(name: str) -> tuple[Signer, ...]:
    try:
        return tuple(make_signer(name, t, os.urandom(_SEED_BYTES)) for t in _TYPES)
    except MalformedError as error:
        raise ConfigurationError(f"a witness cannot be named so: {error}") from None


def _write(directory: Path, signers: tuple[Signer, ...]) -> None:
    vkeys = tuple(signer.verifier.vkey for signer in signers)
    write_durably(directory / ".gitignore", b"*\n", mode=0o644)
    write_durably(directory / _KEY, _lines([signer.skey for signer in signers]))
    write_durably(directory / "vkeys", _lines(vkeys), mode=0o644)
    WitnessState.create(directory / _STATE, vkeys)


def _lines(lines: tuple[str, ...] | list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _clear_left_over(directory: Path) -> None:
    """Remove what an `init` that died left: its keys have signed nothing yet."""
    if not (directory / _INITIALISING).exists():
        return
    with storage_errors(f"clear {directory}"):
        for name in (_KEY, "vkeys", _STATE, f"{_STATE}-wal", f"{_STATE}-shm"):
            (directory / name).unlink(missing_ok=True)
    _finish(directory)


def _finish(directory: Path) -> None:
    with storage_errors(f"finish {directory}"):
        (directory / _INITIALISING).unlink()
    sync_directory(directory)


def _read_signers(path: Path) -> tuple[Signer, ...]:
    try:
        lines = read_secret(path).decode().splitlines()
        signers = tuple(parse_skey(line) for line in lines)
    except (MalformedError, UnicodeDecodeError):
        raise ConfigurationError(f"expected private keys in {path}") from None
    if tuple(signer.verifier.type for signer in signers) != _TYPES:
        raise ConfigurationError(
            f"expected an Ed25519 and an ML-DSA-44 cosigning key in {path}"
        )
    return signers
