"""Reads names and versions from the formats of models: bounded, and running nothing.

What does not look like a name or a version is left out, and a file that breaks the
rules of its format gives no details: its digest says what it is all the same.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from auditlog.core.record import MAX_DEPTH, nested_deeper
from auditlog.models.details import is_detail
from auditlog.models.onnx import onnx_details

__all__ = ["Details", "details_of_directory", "details_of_file"]

Details = tuple[tuple[str, str], ...]
_Sealed = tuple[tuple[str, bytes], ...]

_MAX_TEXT = 1 << 16
"""Bytes of a configuration that is read."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack", ".onnx")
_LINE = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_.-]*):(?: (.*))?")
_COMPRESSION = {
    b"\x1f\x8b": "gzip",
    b"BZ": "bz2",
    b"\xfd7zXZ": "xz",
    b"]\0": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"x\x01": "zlib",
    b"x\x5e": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
}


def details_of_directory(root: Path) -> tuple[Details, _Sealed]:
    """Return what a directory says about its model, in clear and under a commitment.

    Raises:
        OSError: it cannot be read.
    """
    if (root / "MLmodel").is_file():
        text = _read_text(root / "MLmodel")
        return _mlflow(text), (("mlmodel", text),) if text else ()
    has_weights = any(path.name.endswith(_WEIGHTS) for path in root.iterdir())
    if has_weights and (root / "config.json").is_file():
        text = _read_text(root / "config.json")
        return _huggingface(text), (("config", text),) if text else ()
    return (("format", "directory"),), ()


def details_of_file(path: Path) -> Details:
    """Return what a file says about its model.

    Raises:
        OSError: it cannot be read.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        return (("format", "file"),)
    name, read = kind
    with path.open("rb") as file:
        return (("format", name), *_words(read(file)))


def _read_text(path: Path) -> bytes:
    """Return a small file; nothing of a larger one."""
    with path.open("rb") as file:
        data = file.read(_MAX_TEXT + 1)
    return data if len(data) <= _MAX_TEXT else b""


def _words(found: Iterable[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    """Yield those that look like the name or the version of something, each once."""
    for name, value in dict(reversed([*found])).items():
        if isinstance(value, str) and _is_word(value) and is_detail(name, value):
            yield name, value


def _joined(name: str, words: Iterable[str]) -> Details:
    """Return up to eight words as one detail; none if that would be too long."""
    text = " ".join([*words][:8])
    return ((name, text),) if is_detail(name, text) else ()


# --- MLflow ---------------------------------------------------------------------------


def _mlflow(text: bytes) -> Details:
    """Return what stands in an ``MLmodel``, YAML as MLflow writes it.

    Of YAML only this is read: ``key: word`` at the indentation that MLflow's writer
    gives it. Longer values are indented deeper, so nothing in them looks like a key.
    """
    top, flavors = _mlmodel(text.decode("utf-8", "replace"))
    said = [
        *(("mlflow.version", top.get("mlflow_version")),),
        *((f"mlflow.{key}", top.get(key)) for key in ("run_id", "model_uuid")),
    ]
    for flavor in sorted(flavors)[:8]:
        for key, value in sorted(flavors[flavor].items())[:8]:
            if key.endswith("_version"):
                said.append((f"{flavor}.{key}".lower(), value))
    flavored = _joined("mlflow.flavors", sorted(flavors))
    return (("format", "mlflow"), *flavored, *_words(said))


def _mlmodel(text: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    top: dict[str, str] = {}
    flavors: dict[str, dict[str, str]] = {}
    section = flavor = ""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        value = _unquoted((found[3] or "").strip(" "))
        depth, key = len(found[1]), found[2]
        if depth == 0:
            section, flavor = key, ""
            top[key] = value
        elif section == "flavors" and depth == 2 and _WORD.fullmatch(key):
            flavor = key
            flavors[key] = {}
        elif flavor and depth == 4:
            flavors[flavor][key] = value
    return top, flavors


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


# --- Hugging Face ---------------------------------------------------------------------


def _huggingface(text: bytes) -> Details:
    config = _parse_object(text)
    architectures = config.get("architectures")
    first = architectures[:8] if isinstance(architectures, list) else []
    named = (one for one in first if isinstance(one, str) and _is_word(one))
    known = _joined("huggingface.architectures", named)
    said = (
        ("huggingface.model_type", config.get("model_type")),
        ("huggingface.dtype", config.get("dtype", config.get("torch_dtype"))),
        ("transformers.version", config.get("transformers_version")),
    )
    return (("format", "huggingface"), *known, *_words(said))


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def _parse_object(text: bytes) -> Mapping[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    if nested_deeper(text, MAX_DEPTH):
        return {}
    try:
        value = json.loads(text.decode(), parse_int=str, parse_float=str)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- files ----------------------------------------------------------------------------


def _safetensors(file: BinaryIO) -> list[tuple[str, object]]:
    size = int.from_bytes(file.read(8), "little")
    # Far smaller than the format allows: the header of most models.
    header = _parse_object(file.read(size)) if size <= 1 << 22 else {}
    about = header.get("__metadata__")
    known = about.get("format") if isinstance(about, dict) else None
    return [("safetensors.framework", known)]


def _gguf(file: BinaryIO) -> list[tuple[str, object]]:
    if file.read(4) != b"GGUF":
        return []
    return [("gguf.version", str(int.from_bytes(file.read(4), "little")))]


def _pickle(file: BinaryIO) -> list[tuple[str, object]]:
    head = file.read(8)
    if head[:1] == b"\x80" and len(head) > 1:
        return [("pickle.protocol", str(head[1]))]
    found = [name for magic, name in _COMPRESSION.items() if head.startswith(magic)]
    return [("compression", name) for name in found[:1]]


_SUFFIXES: dict[str, tuple[str, Callable[[BinaryIO], list[tuple[str, object]]]]] = {
    ".onnx": ("onnx", onnx_details),
    ".safetensors": ("safetensors", _safetensors),
    ".gguf": ("gguf", _gguf),
    ".joblib": ("joblib", _pickle),
    ".pkl": ("pickle", _pickle),
    ".pickle": ("pickle", _pickle),
}
