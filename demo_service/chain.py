"""A chain of our own: anvil, a real EVM node, which npm installs beside this file."""

import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from demo_service.client import http

__all__ = ["CHAIN_ID", "Node", "command", "install", "npm_ci", "write_key"]

CHAIN_ID = 31337
"""Of every chain that anvil makes."""
_HERE = Path(__file__).parent
_ANVIL = _HERE / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
_SECONDS = 180


def install() -> str:
    """Install the node, once; return why it cannot be had, empty if it is there."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "anvil comes from npm for Linux on x86-64"
    return npm_ci(_HERE)


def npm_ci(directory: Path) -> str:
    """Install what a directory's package-lock.json pins, once.

    No script of any package is run.

    Returns:
        Why that is not possible; empty if it is done.
    """
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return f"it needs {' and '.join(missing)} (Node.js)"
    lock, stamp = directory / "package-lock.json", directory / "node_modules/.installed"
    with _alone(directory):
        if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
            return ""
        if problem := _run_npm(directory):
            return problem
        stamp.write_bytes(lock.read_bytes())
    return ""


def _run_npm(directory: Path) -> str:
    """Run it; return what is wrong, empty if nothing is."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            ["npm", "ci", *options],  # noqa: S607  whatever npm the reader has
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"npm ci was not done after {_SECONDS} s"
    return f"npm ci failed: {_one_line(done.stderr)}" if done.returncode else ""


def _one_line(text: str) -> str:
    plain = text.encode("ascii", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:300]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one process at a time work in a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def command(port: int, *options: str) -> list[str]:
    """Return what starts a node on a port of the loopback interface."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--silent"]
    return [str(_ANVIL), *where, "--hardfork", "prague", *options]


class Node:
    """A running node, as its owner sees it."""

    def __init__(self, url: str) -> None:
        """Name it; nothing is asked yet."""
        self.url = url

    def rpc(self, method: str, *params: Any) -> Any:
        """Call a method, and insist on a result."""
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}
        answer = http(self.url, body).json()
        if "error" in answer:
            msg = f"{method}: {answer['error']}"
            raise OSError(msg)
        return answer["result"]

    def answers(self) -> bool:
        """Return whether it is there."""
        try:
            return int(self.rpc("eth_chainId"), 16) == CHAIN_ID
        except OSError:
            return False

    def number(self) -> int:
        """Return the number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def block_hash(self, number: int) -> str:
        """Return the hash of a block, in hex."""
        found: str = self.rpc("eth_getBlockByNumber", hex(number), False)["hash"]
        return found

    def fund(self, address: bytes, wei: int = 10**20) -> None:
        """Make an account rich, from the next block on."""
        self.rpc("anvil_setBalance", "0x" + address.hex(), hex(wei))


def write_key(path: Path) -> None:
    """Write a new account's key, for its owner's eyes only."""
    path.touch(0o600)
    path.write_text(f"0x{secrets.token_bytes(32).hex()}\n")
