"""What is shipped is what the compiler makes of the source, and what constants say."""

import json
import re
import subprocess

from auditlog.anchors.evm import contract
from auditlog.anchors.evm.artifact import load_artifact
from auditlog.anchors.evm.keccak import keccak
from tests.anchors.evm.chain import HERE
from tests.anchors.evm.vm import Vm

ARTIFACT = load_artifact()
BYTECODE = bytes.fromhex(ARTIFACT["bytecode"][2:])


def names(kind: str) -> dict[str, bytes]:
    """Return the hash of each name with its types, of the ABI."""
    found = {}
    for one in ARTIFACT["abi"]:
        if one["type"] == kind:
            types = ",".join(item["type"] for item in one["inputs"])
            found[one["name"]] = keccak(f"{one['name']}({types})".encode())
    return found


def test_the_compiler_makes_these_bytes_of_the_source(npm: None) -> None:
    command = ["node", str(HERE / "compile.cjs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ARTIFACT


def test_what_it_was_compiled_with() -> None:
    assert ARTIFACT["compiler"].startswith("0.8.37+")
    assert ARTIFACT["settings"]["evmVersion"] == "paris"
    assert ARTIFACT["settings"]["optimizer"] == {"enabled": True, "runs": 10000}
    assert ARTIFACT["settings"]["metadata"]["bytecodeHash"] == "none"


def test_the_address_on_every_chain() -> None:
    made = keccak(b"\xff" + contract.PROXY + contract.SALT + keccak(BYTECODE))
    assert made[12:] == contract.ADDRESS
    assert keccak(bytes.fromhex(ARTIFACT["runtime"][2:])) == contract.CODE_HASH


def test_topics_selectors_and_errors() -> None:
    assert names("event") == {"Batch": contract.BATCH, "Anchored": contract.ANCHORED}
    errors = {hash_[:4].hex(): name for name, hash_ in names("error").items()}
    assert errors == contract.ERRORS
    functions = {name: hash_[:4] for name, hash_ in names("function").items()}
    calls = {
        "advance": contract.call_advance(bytes(32), 1, bytes(32), []),
        "batch": contract.call_batch(bytes(32)),
        "head": contract.call_head(bytes(20), bytes(32)),
        "rootAt": contract.call_root_at(bytes(20), bytes(32), 1),
    }
    for name, call in calls.items():
        assert call[:4] == functions[name]


def test_slots() -> None:
    assert ARTIFACT["slots"] == {"head": 0, "rootAt": 1}
    vm = Vm()
    vm.send("anchor", b"\1" * 32, 7, b"\2" * 32)
    sender = bytes.fromhex(vm.accounts[0][2:])
    state = vm.tester.backend.chain.get_vm().state
    address = bytes.fromhex(vm.contract[2:])
    slot = int.from_bytes(contract.root_slot(sender, b"\1" * 32, 7), "big")
    assert state.get_storage(address, slot) == int.from_bytes(b"\2" * 32, "big")
    head = int.from_bytes(contract.head_slot(sender, b"\1" * 32), "big")
    assert state.get_storage(address, head) & (2**64 - 1) == 7


def test_nobody_owns_it_and_nothing_moves_money() -> None:
    source = (HERE / "../../../auditlog/anchors/evm/AuditAnchor.sol").read_text("utf-8")
    code = re.sub(r"//.*", "", source)
    for word in (
        "owner",
        "payable",
        "delegatecall",
        "selfdestruct",
        "assembly",
        "call{",
    ):
        assert word not in code
    assert all(one.get("stateMutability") != "payable" for one in ARTIFACT["abi"])
    assert not [one for one in ARTIFACT["abi"] if one["type"] == "constructor"]
