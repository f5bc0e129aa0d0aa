import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from auditlog.core.errors import AuditLogError
from auditlog.core.receipt import format_receipt, parse_receipt
from auditlog.core.verify import verify_receipt
from demo_service.offline import VERIFIER, damaged_copies, verify
from demo_service.processes import DemoError
from tests.demo.conftest import Run

NAMES = [
    *("batch-v1", "batch-v2", "json-v1", "json-v2"),
    *("letter", "patient", "stream-v1", "stream-v2"),
]
OPENED = {"letter", "patient"}


def accepted(receipt: bytes, demo: Run) -> bool:
    try:
        verify_receipt(receipt, demo.policy)
    except AuditLogError:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_each_receipt_holds_in_an_empty_directory(
    demo: Run, tmp_path: Path, name: str
) -> None:
    receipt = f"{name}.receipt.json"
    for path in (VERIFIER, "policy", f"receipts/{receipt}"):
        shutil.copy(demo.output / path, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", VERIFIER, "--policy", "policy", receipt],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{receipt}: VERIFIED" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [VERIFIER, "policy", receipt]
    )


def test_the_verifier_takes_its_code_from_its_own_file(
    demo: Run, tmp_path: Path
) -> None:
    # This checkout is installed where the tests run, so it could have been used.
    shutil.copy(demo.output / VERIFIER, tmp_path)
    code = (
        f"import runpy, sys; sys.path.insert(0, {VERIFIER!r}); sys.argv = ['x', '-h']\n"
        f"try: runpy.run_path({VERIFIER!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print({m.__file__ for n, m in sys.modules.items() if n[:8] == 'auditlog'})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    files = done.stdout.splitlines()[-1].strip("{}").split(", ")
    assert len(files) > 10
    assert [file for file in files if VERIFIER not in file] == []


def test_the_patient_learns_the_label_and_nothing_else(demo: Run) -> None:
    verdict = demo.evidence.verdict
    assert verdict.disclosed == (("response/label", b'"malignant"'),)
    text = demo.receipts["patient.receipt.json"].decode()
    assert "radius" not in text
    assert "malignant" not in text  # only in base64, as the disclosed value


def test_one_event_of_a_streamed_letter_is_shown_and_no_other(demo: Run) -> None:
    receipt = demo.receipts["letter.receipt.json"]
    verdict = verify_receipt(receipt, demo.policy)
    ((path, event),) = verdict.disclosed
    assert path.startswith("response#")
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert b'"content":" declined"' in event
    assert event.count(b"data: ") == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OPENED])
def test_by_default_a_receipt_discloses_nothing(demo: Run, name: str) -> None:
    fields = json.loads(demo.receipts[f"{name}.receipt.json"])
    assert set(fields) == {"schema", "entry", "proof", "anchors", "related"}
    # What the log says of the model stands in clear anyway.
    assert [one["rel"] for one in fields["related"]] == ["model"]


def alone(demo: Run, name: str) -> bytes:
    """Return a receipt without what it tells along, which is twice as long as the rest:
    anchors, and the model."""
    receipt = parse_receipt(demo.receipts[f"{name}.receipt.json"])
    return format_receipt(replace(receipt, anchors=(), related=()))


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_changed_anywhere_is_refused(demo: Run, name: str) -> None:
    """Also in the anchors, and by those who have no trust file."""
    receipt = bytearray(demo.receipts[f"{name}.receipt.json"])
    survivors = []
    for place in range(len(name), len(receipt), 53):
        receipt[place] ^= 1 << place % 8
        if accepted(bytes(receipt), demo):
            survivors.append(place)
        receipt[place] ^= 1 << place % 8
    assert survivors == []


@pytest.mark.slow
def test_every_change_of_one_byte_is_refused(demo: Run) -> None:
    """All bytes of the receipt with the most parts, each changed in one bit."""
    receipt = bytearray(alone(demo, "patient"))
    assert accepted(bytes(receipt), demo)
    survivors = []
    for place in range(len(receipt)):
        receipt[place] ^= 1 << place % 8
        if accepted(bytes(receipt), demo):
            survivors.append(place)
        receipt[place] ^= 1 << place % 8
    assert survivors == []


@pytest.mark.slow
@pytest.mark.parametrize("other", [b"\x00", b"A", b"\n"])
def test_every_byte_replaced_by_a_telling_one_is_refused(
    demo: Run, other: bytes
) -> None:
    receipt = alone(demo, "json-v1")
    survivors = [
        place
        for place in range(len(receipt))
        if receipt[place : place + 1] != other
        and accepted(receipt[:place] + other + receipt[place + 1 :], demo)
    ]
    assert survivors == []


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_more_or_less_is_refused(demo: Run, name: str) -> None:
    receipt = demo.receipts[f"{name}.receipt.json"]
    assert not accepted(receipt + b"\n", demo)
    assert not accepted(b" " + receipt, demo)
    assert not accepted(receipt[1:], demo)
    assert not accepted(receipt[:-1], demo)


@pytest.mark.parametrize("name", NAMES)
def test_the_built_verifier_refuses_damage_too(demo: Run, name: str) -> None:
    copies = damaged_copies(demo.receipts[f"{name}.receipt.json"], 40)
    verifier, policy, trust = (
        demo.output / name for name in (VERIFIER, "policy", "trust")
    )
    said = verify(verifier, policy, trust, len(demo.parties), copies)
    assert sorted(said) == sorted(copies)
    assert [file for file, one in said.items() if one["ok"]] == []


def test_damage_is_one_bit_and_lies_all_over_the_receipt() -> None:
    receipt = bytes(range(256)) * 4
    places = []
    for copy in damaged_copies(receipt, 64).values():
        (place,) = (at for at in range(1024) if copy[at] != receipt[at])
        assert (copy[place] ^ receipt[place]).bit_count() == 1
        places.append(place)
    assert places == list(range(0, 1024, 16))


def test_a_verifier_without_a_verdict_is_an_error(demo: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("")
    trust = tmp_path / "trust"
    trust.write_text("")
    (tmp_path / VERIFIER).write_text("raise SystemExit('broken')")
    with pytest.raises(DemoError, match="ended with 1: broken"):
        verify(tmp_path / VERIFIER, policy, trust, 1, demo.receipts)
