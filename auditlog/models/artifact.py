"""What a model's file or directory is, beyond its digest: format, versions, name.

Nothing is unpickled, imported or run. What is read stands in clear in the log, once for
each model, so only names and versions of software are taken, and only where they look
like such: what else a configuration holds (signatures with names of features, say) is
kept under a commitment, byte for byte.

============  =============================  ========================================
format        recognised by                  details
============  =============================  ========================================
mlflow        a file ``MLmodel``             its version, run, flavours and the
                                             versions that these name
huggingface   ``config.json`` and weights    architectures, model type, version of
                                             transformers, type of numbers
onnx          ``.onnx``                      IR version, operator sets, producer
safetensors   ``.safetensors``               framework that wrote it
gguf          ``.gguf``                      version of the format
joblib        ``.joblib``                    protocol of pickle, or compression
pickle        ``.pkl``, ``.pickle``          likewise
file          any other file
directory     any other directory
============  =============================  ========================================

Each also has ``openssf.digest`` (`auditlog.models.manifest`). Weights that an ONNX file
keeps in other files are no part of it: name their directory.
"""

import os
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError, NotFoundError
from auditlog.models.formats import Details, details_of_directory, details_of_file
from auditlog.models.hub import Snapshot, find_snapshot
from auditlog.models.manifest import read_manifest

__all__ = ["Artifact", "read_artifact"]


class Artifact(NamedTuple):
    """What is known of a model by its files."""

    name: str
    """What the artifact is called."""
    version: str | None
    """Where its place says one, as in the cache of a hub."""
    digest: str
    """``sha256:<hex>``, see `auditlog.models.manifest`."""
    details: Details
    sealed: tuple[tuple[str, bytes], ...]


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read all of a model's file or directory.

    Raises:
        NotFoundError: there is nothing.
        ConfigurationError: see `auditlog.models.identity.Model.from_path`.
    """
    root = Path(path)
    if "\0" in str(root):
        raise ConfigurationError("expected the path of a model, got one with a zero")
    snapshot = find_snapshot(root)
    place = root if snapshot is None else snapshot.path
    before = _details(place)
    manifest = read_manifest(place, allowed=snapshot and snapshot.blobs)
    details, sealed = _details(place)
    if (details, sealed) != before:
        raise ConfigurationError(
            "expected the files of a model, but they changed while they were read: "
            "let their writer finish first"
        )
    details = (*details, ("openssf.digest", manifest.openssf_digest()))
    name, version = _called(place, snapshot)
    return Artifact(name, version, manifest.digest(), details, sealed)


def _called(place: Path, snapshot: Snapshot | None) -> tuple[str, str | None]:
    if snapshot is not None:
        return snapshot.name, snapshot.commit
    # Of a link the name that was given: what it leads to may be named by its hash.
    named = place.name not in {"", ".", ".."}
    return (place if named else place.resolve()).name, None


def _details(place: Path) -> tuple[Details, tuple[tuple[str, bytes], ...]]:
    try:
        if place.is_dir():
            return details_of_directory(place)
        # What is no file is refused by the manifest; a pipe would be waited for here.
        return details_of_file(place) if place.is_file() else (), ()
    except FileNotFoundError:
        raise NotFoundError(f"no model at {place}") from None
    except OSError as error:
        raise ConfigurationError(
            f"expected a model that can be read at {place}, got {error.strerror}"
        ) from None
