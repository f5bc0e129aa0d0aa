"""What the compiler makes of `AuditAnchor.sol`, as it is shipped beside it."""

import json
from pathlib import Path
from typing import Any

__all__ = ["load_artifact"]


def load_artifact() -> dict[str, Any]:
    """Read it: abi, bytecode, compiler, runtime, settings, slots."""
    text = Path(__file__).with_name("AuditAnchor.json").read_text("utf-8")
    artifact: dict[str, Any] = json.loads(text)
    return artifact
