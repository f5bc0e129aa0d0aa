"""The head of an ONNX file: versions and producer, read without its graph.

An ONNX file is a protobuf message ``ModelProto`` (onnx.proto3): fields with a tag, that
may come in any order. Those of interest are small and read; all others are stepped
over, however large.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

__all__ = ["onnx_details"]

_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _OPSET = 1, 2, 3, 8
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_MAX_FIELDS = 4096
_MAX_VALUE = 1024
"""Bytes of a field that is read."""
_Fields = list[tuple[int, int | bytes]]


def onnx_details(file: BinaryIO) -> list[tuple[str, object]]:
    """Return the versions that an ONNX file names; none if it is no protobuf.

    Args:
        file: at its start; can seek.
    """
    try:
        fields = list(_fields(file))
    except ValueError:
        return []
    known = dict(fields)
    opsets = [_opset(value) for field, value in fields if field == _OPSET][:16]
    return [
        ("onnx.ir_version", _text(known.get(_IR_VERSION))),
        ("onnx.producer", _text(known.get(_PRODUCER))),
        ("onnx.producer_version", _text(known.get(_PRODUCER_VERSION))),
        *((f"onnx.opset.{domain}", version) for domain, version in opsets if version),
    ]


def _opset(value: int | bytes) -> tuple[str, str | None]:
    """Return domain, ai.onnx where none is named, and version of a set of operators."""
    known = dict(_small_fields(value)) if isinstance(value, bytes) else {}
    domain = _text(known.get(1)) or "ai.onnx"
    # Part of a detail's name: what could not be one is not told apart from others.
    plain = domain.isascii() and domain.replace(".", "").isalnum() and len(domain) < 40
    return (domain.lower() if plain else "other"), _text(known.get(2))


def _text(value: int | bytes | None) -> str | None:
    if value is None:
        return None
    return str(value) if isinstance(value, int) else value.decode("utf-8", "replace")


def _fields(file: BinaryIO) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field; ValueError where it is no protobuf."""
    size = file.seek(0, 2)
    file.seek(0)
    for _ in range(_MAX_FIELDS):
        if file.tell() == size:
            return
        field, kind = divmod(_varint(file), 8)
        if kind == _VARINT:
            yield field, _varint(file)
            continue
        length = _varint(file) if kind == _LEN else {_I64: 8, _I32: 4}.get(kind, size)
        end = file.tell() + length
        if end > size:
            raise ValueError
        if kind == _LEN and length <= _MAX_VALUE:
            yield field, file.read(length)
        file.seek(end)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError


def _small_fields(data: bytes) -> _Fields:
    try:
        return list(_fields(BytesIO(data)))
    except ValueError:
        return []
