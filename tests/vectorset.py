"""Vectors that we did not make: the copied ones, and public ones where present.

The copied ones are in `tests/vectors`, with their origin in its README. The public ones
are read from the folder named by ``AUDITLOG_VECTORS``; without it, a test that needs
them is skipped with a reason, but fails in CI.
"""

import base64
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["b64", "own", "public", "public_files"]

_TESTS = Path(__file__).resolve().parent
_DEFAULT = _TESTS.parent.parent / "shared" / "vectors"


@cache
def own(name: str) -> Any:
    """Return the parsed JSON of ``tests/vectors/<name>.json``; do not change it."""
    return json.loads((_TESTS / "vectors" / f"{name}.json").read_text("utf-8"))


def public(path: str) -> bytes:
    """Return a third-party file; skip, or in CI fail, where there is none."""
    return (_folder() / path).read_bytes()


def public_files(path: str, pattern: str) -> list[Path]:
    """Return the third-party files below a folder, at least one, in order."""
    files = sorted((_folder() / path).rglob(pattern))
    assert files, f"no {pattern} in {path}"
    return files


def b64(text: str) -> bytes:
    """Decode base64 without the help of the code under test."""
    return base64.b64decode(text, validate=True)


def _folder() -> Path:
    base = Path(os.environ.get("AUDITLOG_VECTORS", _DEFAULT))
    folder = base / "public"
    if not folder.is_dir():
        reason = f"no public vectors in {base}: set AUDITLOG_VECTORS to their folder"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
