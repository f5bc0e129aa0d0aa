"""A chain of our own: the anvil that npm installs for the demo."""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from auditlog.anchors.evm.anchor import EvmAnchor, configure
from auditlog.anchors.evm.contract import ADDRESS, ANCHORED
from auditlog.anchors.trust import Chain, Trust
from demo_service import chain
from demo_service.chain import CHAIN_ID, Node
from tests.conftest import IN_CI
from tests.e2e.processes import free_port, wait_until

__all__ = ["CHAIN_ID", "HERE", "NODE_MODULES", "Anvil", "install", "running"]

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
ETHER = 10**18


def install() -> None:
    """Install what is pinned, once; skip, and in CI fail, where that fails."""
    problem = chain.install() or chain.npm_ci(HERE)
    if problem and IN_CI:
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


class Anvil(Node):
    """A node whose owner makes the blocks."""

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

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

    def sent(self, address: bytes) -> list[tuple[int, bytes]]:
        """Return number and call of each mined transaction of an account, in order."""
        blocks = [
            self.rpc("eth_getBlockByNumber", hex(number), True)
            for number in range(self.number() + 1)
        ]
        return [
            (int(one["nonce"], 16), bytes.fromhex(one["input"][2:]))
            for block in blocks
            for one in block["transactions"]
            if one["from"] == "0x" + address.hex()
        ]

    def fund(self, address: bytes, wei: int = 100 * ETHER) -> None:
        super().fund(address, wei)
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
    process = subprocess.Popen(
        chain.command(port, "--no-mining"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    anvil = Anvil(f"http://127.0.0.1:{port}")
    try:
        wait_until(anvil.answers, 30, "anvil")
        yield anvil
    finally:
        process.kill()
        process.wait()
