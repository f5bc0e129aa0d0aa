"""Where the cache of a Hugging Face hub keeps a model, and under which name.

::

    models--<organisation>--<name>/refs/main             a commit
    models--<organisation>--<name>/snapshots/<commit>/   links into blobs/
    models--<organisation>--<name>/blobs/

Either a snapshot or the directory of the model may be named; the latter is the snapshot
that its ``refs/main`` names.
"""

import re
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError

__all__ = ["Snapshot", "find_snapshot"]

_REPOSITORY = re.compile(r"models--([A-Za-z0-9._-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Snapshot(NamedTuple):
    """One version of a model in a cache."""

    path: Path
    name: str
    """``organisation/name``."""
    commit: str
    """40 hex digits."""
    blobs: Path
    """Where its links lead."""


def find_snapshot(root: Path) -> Snapshot | None:
    """Return the snapshot that a path means; None if it is in no such cache.

    Raises:
        ConfigurationError: it is the directory of a model whose ``refs/main`` names no
            snapshot that is there.
    """
    place = root.absolute()
    if _REPOSITORY.fullmatch(place.name) and (place / "snapshots").is_dir():
        place = place / "snapshots" / _main(place)
    repository = place.parent.parent
    named = _REPOSITORY.fullmatch(repository.name)
    inside = place.parent.name == "snapshots" and _COMMIT.fullmatch(place.name)
    if named is None or not inside:
        return None
    name = named[1].replace("--", "/")
    return Snapshot(place, name, place.name, repository / "blobs")


def _main(repository: Path) -> str:
    try:
        with (repository / "refs" / "main").open("rb") as file:
            commit = file.read(64).decode("ascii", "replace").strip()
    except OSError:
        commit = ""
    if (
        not _COMMIT.fullmatch(commit)
        or not (repository / "snapshots" / commit).is_dir()
    ):
        raise ConfigurationError(
            f"expected refs/main of {repository.name} to name a snapshot that is "
            "there; name the snapshot's directory"
        )
    return commit
