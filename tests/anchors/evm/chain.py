"""A chain of our own: the anvil that npm installs beside this file."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from auditlog.anchors.evm.anchor import EvmAnchor, configure
from auditlog.anchors.evm.contract import ADDRESS, ANCHORED
from auditlog.anchors.trust import Chain, Trust
from tests.conftest import IN_CI
from tests.e2e.processes import free_port, wait_until

__all__ = ["ANVIL", "CHAIN_ID", "HERE", "NODE_MODULES", "Anvil", "install", "running"]

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
ANVIL = NODE_MODULES / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
CHAIN_ID = 31337
ETHER = 10**18


def install() -> None:
    """Install what package.json pins, once; skip, and in CI fail, where that fails."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if sys.platform != "linux":
        missing.append("a Linux build of anvil")
    problem = f"needs {' and '.join(missing)}" if missing else _npm_ci()
    if problem and IN_CI:
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


def _npm_ci() -> str:
    lock_file = HERE / "package-lock.json"
    stamp = NODE_MODULES / ".installed"
    descriptor = os.open(HERE, os.O_RDONLY)
    try:
        flock(descriptor, LOCK_EX)  # several workers may want it at once
        if stamp.exists() and stamp.read_bytes() == lock_file.read_bytes():
            return ""
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            ["npm", "ci", *options],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"npm ci failed: {done.stderr[-500:]}"
        stamp.write_bytes(lock_file.read_bytes())
    finally:
        os.close(descriptor)
    return ""


class Anvil:
    """A running node, as its owner sees it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def rpc(self, method: str, *params: Any) -> Any:
        """Call a method; errors are bugs of a test."""
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}
        request = urllib.request.Request(
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer = json.load(response)
        assert "error" not in answer, answer
        return answer["result"]

    def answers(self) -> bool:
        try:
            return int(self.rpc("eth_chainId"), 16) > 0
        except OSError:
            return False

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def number(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def block(self, name: str | int = "latest") -> dict[str, Any]:
        found = name if isinstance(name, str) else hex(name)
        block: dict[str, Any] = self.rpc("eth_getBlockByNumber", found, False)
        return block

    def logs(self, digest: bytes) -> list[dict[str, Any]]:
        """Return the events of the contract for a digest."""
        topics = [None, None, "0x" + digest.hex()]
        found: list[dict[str, Any]] = self.rpc(
            "eth_getLogs",
            {"address": "0x" + ADDRESS.hex(), "fromBlock": "0x0", "topics": topics},
        )
        return found

    def trees(self) -> list[tuple[int, bytes]]:
        """Return size and root of each tree that the contract was told, in order."""
        address, topics = "0x" + ADDRESS.hex(), ["0x" + ANCHORED.hex()]
        found = self.rpc(
            "eth_getLogs",
            {"address": address, "fromBlock": "0x0", "topics": topics},
        )
        return [
            (int(one["topics"][3], 16), bytes.fromhex(one["data"][2:])) for one in found
        ]

    def fund(self, address: bytes, wei: int = 100 * ETHER) -> None:
        self.rpc("anvil_setBalance", "0x" + address.hex(), hex(wei))
        self.mine()  # until then no block has it

    def key_file(self, directory: Path, name: str = "chain.key") -> Path:
        """Write the key of a new, rich account."""
        key = secrets.token_bytes(32)
        path = directory / name
        path.touch(0o600)
        path.write_text("0x" + key.hex() + "\n")
        self.fund(bytes.fromhex(Account.from_key(key).address[2:]))
        return path

    def anchor(self, directory: Path, **options: Any) -> EvmAnchor:
        """Return an anchor with an account of its own in `directory`."""
        if not (directory / "chain.key").exists():
            self.key_file(directory)
        table: dict[str, Any] = {
            "chain_id": CHAIN_ID,
            "confirmations": 1,
            "key_file": "chain.key",
            "rpc": self.url,
        }
        return configure("chain", {**table, **options}, directory)

    def trust(self, anchor: EvmAnchor, *blocks: str | int, **fields: Any) -> Trust:
        """Return the trust file of somebody who believes the blocks of these names."""
        hashes = tuple(
            bytes.fromhex(self.block(name)["hash"][2:]) for name in blocks or ["latest"]
        )
        chain: dict[str, Any] = {
            "party": "Anvil",
            "chain_id": CHAIN_ID,
            "contract": ADDRESS,
            "senders": (anchor.address,),
            "blocks": hashes,
        }
        return Trust(chains=(Chain(**{**chain, **fields}),))


@contextmanager
def running() -> Iterator[Anvil]:
    """Run a node that makes blocks when it is told to."""
    port = free_port()
    command = [str(ANVIL), "--host", "127.0.0.1", "--port", str(port), "--silent"]
    process = subprocess.Popen(
        [*command, "--hardfork", "prague", "--no-mining"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    anvil = Anvil(port)
    try:
        wait_until(anvil.answers, 30, "anvil")
        yield anvil
    finally:
        process.kill()
        process.wait()
