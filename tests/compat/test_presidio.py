"""Presidio, as it is: what it finds goes from documents and from streams."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.environments import ROOT, SECONDS, environment_of, needs_servers

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_servers]

FOUND = [
    "jane.doe@example.com",
    "4111 1111 1111 1111",
    "+1 212-555-0187",
    "DE89370400440532013000",
]


def redacted(tmp_path: Path, bodies: list[tuple[str, str]]) -> dict[str, Any]:
    """Let Presidio see bodies, in its environment; media type and text of each."""
    asked = tmp_path / "bodies.json"
    asked.write_text(json.dumps(bodies))
    python = environment_of("presidio") / "bin" / "python"
    # Its recognizer of addresses asks the network for a list, if it is let.
    quiet = {
        "TLDEXTRACT_PUBLIC_SUFFIX_LIST_URLS": "",
        "TLDEXTRACT_CACHE": str(tmp_path),
    }
    done = subprocess.run(
        [python, "-m", "tests.compat.presidio_shaped", asked, tmp_path / "blank"],
        cwd=ROOT,
        env={**os.environ, **quiet, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_what_presidio_finds_is_not_stored(tmp_path: Path) -> None:
    document = json.dumps({"note": f"mail {FOUND[0]}", "many": FOUND, "age": 47})
    parts = ["Write to ja", "ne.d", "oe@exam", "ple.com or call +1 212-", "555-0187."]
    stream = "".join(f'data: {{"delta": {json.dumps(part)}}}\n\n' for part in parts)
    said = redacted(
        tmp_path,
        [
            ("application/json", document),
            ("text/event-stream", stream),
            ("text/plain", "nothing of anybody"),
        ],
    )
    first, second, third = said["bodies"]
    assert json.loads(first) == {
        "note": "mail [redacted]",
        "many": ["[redacted]"] * 4,
        "age": 47,
    }
    deltas = [json.loads(line[6:])["delta"] for line in second.split("\n\n")[:-1]]
    assert "".join(deltas) == "Write to [redacted] or call [redacted]."
    assert len(deltas) == len(parts)
    assert third == "nothing of anybody"
    assert "expected entities out of " in said["unknown"]
    assert said["unknown"].endswith("; got NOBODY")
    assert said["language"].startswith(
        "PresidioRedactor: expected an analyzer for the language 'de'"
    )
    assert "python -m spacy download en_core_web_lg" in said["model"]
