"""Verifying in an empty directory: three files and receipts, and Python without ours.

``python -I`` ignores the environment and this checkout, so that nothing of ours but
``verify_receipt.pyz`` can take part.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo_service.processes import DemoError, run

__all__ = ["VERIFIER", "build_verifier", "damaged_copies", "verify"]

VERIFIER = "verify_receipt.pyz"
_SECONDS = 120
_STATUSES = {0, 10, 13, 16}


def build_verifier(folder: Path) -> Path:
    """Build the offline verifier into `folder`; return the file."""
    path = folder / VERIFIER
    run(["-m", "auditlog.build_verifier", str(path)])
    return path


def verify(
    verifier: Path,
    policy: Path,
    trust: Path,
    parties: int,
    receipts: Mapping[str, bytes],
) -> dict[str, dict[str, Any]]:
    """Verify receipts in an empty directory; return what was said of each, by name.

    Args:
        verifier: the one file.
        policy: whom its reader believes: log keys, witnesses, quorum.
        trust: whom its reader believes about time.
        parties: how many of these must vouch for the time; it may be nobody.
        receipts: by name.

    Raises:
        DemoError: the verifier did not come to a verdict.
    """
    with tempfile.TemporaryDirectory(prefix="auditlog-demo-") as empty:
        folder = Path(empty)
        shutil.copy(verifier, folder / VERIFIER)
        shutil.copy(policy, folder / "policy")
        shutil.copy(trust, folder / "trust")
        for name, data in receipts.items():
            (folder / name).write_bytes(data)
        believed = ["--policy", "policy", "--trust", "trust"]
        demanded = ["--min-anchors", str(parties)] if parties else []
        options = [*believed, *demanded, "--json"]
        # A name may begin with a dash, so options end before the names.
        done = subprocess.run(
            [sys.executable, "-I", VERIFIER, *options, "--", *receipts],
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode not in _STATUSES:
        raise DemoError(f"{VERIFIER} ended with {done.returncode}: {done.stderr}")
    said = json.loads(done.stdout)
    return {file["file"]: file for file in said.get("files", [said])}


def damaged_copies(receipt: bytes, count: int) -> dict[str, bytes]:
    """Return `count` copies of a receipt with one bit turned, spread over all of it."""
    copies = {}
    for number in range(count):
        damaged = bytearray(receipt)
        place = number * len(receipt) // count
        damaged[place] ^= 1 << number % 8
        copies[f"damaged-{place}.receipt.json"] = bytes(damaged)
    return copies
