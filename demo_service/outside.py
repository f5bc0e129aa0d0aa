"""What fixes the log in time: an authority and a chain that the operator does not own.

Both run on this machine, so this is make-believe as with the witnesses; what they give
is checked as that of strangers would be. Where there is no Node.js there is no chain,
and the demo says so.
"""

import json
import time
from pathlib import Path
from typing import NamedTuple

from auditlog.anchors.evm.account import Account
from auditlog.anchors.evm.anchor import EvmAnchor, configure
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.trust import parse_trust
from demo_service.chain import CHAIN_ID, Node, command, install, write_key
from demo_service.client import answers
from demo_service.processes import Processes, free_port
from demo_service.time_stamp_authority import POLICY

__all__ = [
    "AUTHORITY",
    "CHAIN",
    "Outside",
    "deploy_contract",
    "start_authority",
    "start_outside",
]

AUTHORITY = "the authority"
"""What the trust file calls the time-stamp authority."""
CHAIN = "the chain"
"""What the trust file calls the chain."""

_START_SECONDS = 40.0
_LOOPBACK = "127.0.0.1"


class Outside(NamedTuple):
    """Where authority and chain are, and what one must know to believe them."""

    directory: Path
    """The authority's; nobody else writes there."""
    authority_url: str
    policy: str
    chain: Node | None
    left_out: str
    """Why there is no chain; empty if there is one."""

    @property
    def parties(self) -> tuple[str, ...]:
        """Who can vouch for a time."""
        return (AUTHORITY,) if self.chain is None else (AUTHORITY, CHAIN)

    @property
    def kinds(self) -> set[str]:
        """Kinds of the anchors that are asked."""
        return {"rfc3161"} if self.chain is None else {"rfc3161", "evm"}

    def configure(self, log: Path) -> None:
        """Tell a log whom to ask, as its operator does."""
        tables = [
            _table(
                kind="rfc3161",
                name="authority",
                url=self.authority_url,
                policy=self.policy,
                root=str(self.directory / "root.pem"),
            )
        ]
        if self.chain is not None:
            write_key(log / "chain.key")
            options = {"kind": "evm", "name": "chain", **self._options(self.chain)}
            tables.append(_table(**options))
            anchor = self.anchor(log)
            self.chain.fund(anchor.address)
        (log / "anchors.toml").write_text("\n".join(tables))

    def anchor(self, log: Path) -> EvmAnchor:
        """Return the chain as the operator of a log may ask it."""
        assert self.chain is not None
        return configure("chain", self._options(self.chain), log)

    @staticmethod
    def _options(node: Node) -> dict[str, str | int]:
        options = {"rpc": node.url, "key_file": "chain.key", "mode": "advance"}
        return {**options, "chain_id": CHAIN_ID, "confirmations": 1}

    def write_trust(self, path: Path, log: Path) -> None:
        """Write whom somebody believes who has asked authority and chain themselves."""
        root = (self.directory / "root.pem").read_text()
        about = f'[[authority]]\nparty = "{AUTHORITY}"\npolicy = "{self.policy}"\n'
        tables = [f"{about}root = '''{root}'''\n"]
        if self.chain is not None:
            blocks = [
                f'    "{self.chain.block_hash(number)}",\n'
                for number in range(1, self.chain.number() + 1)
            ]
            sender = Account(log / "chain.key").address.hex()
            tables.append(
                f'[[chain]]\nparty = "{CHAIN}"\nchain_id = {CHAIN_ID}\n'
                f'contract = "0x{ADDRESS.hex()}"\nsenders = ["0x{sender}"]\n'
                f"blocks = [\n{''.join(blocks)}]\n"
            )
        path.write_text("\n".join(tables))
        parse_trust(path.read_text())


def _table(**options: str | int) -> str:
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in options.items()
    ]
    return "\n".join(["[[anchor]]", *lines, ""])


def start_outside(processes: Processes, output: Path) -> Outside:
    """Start the authority, and the chain where there can be one; wait for both."""
    left_out = install()
    node = None if left_out else _start_chain(processes)
    directory, url = output / "authority", f"http://{_LOOPBACK}:{free_port()}"
    made = Outside(directory, url, POLICY, node, left_out)
    start_authority(processes, made)
    return made


def start_authority(processes: Processes, made: Outside) -> None:
    """Start the authority, with the keys that it has, and wait until it answers."""
    port = made.authority_url.rpartition(":")[2]
    where = ["--dir", str(made.directory), "--port", port]
    processes.start("authority", ["-m", "demo_service.time_stamp_authority", *where])
    there = answers(f"{made.authority_url}/root.crl")
    processes.wait_until("the authority", there, _START_SECONDS)


def _start_chain(processes: Processes) -> Node:
    node = Node(f"http://{_LOOPBACK}:{(port := free_port())}")
    program, *arguments = command(port, "--block-time", "1")
    processes.start("chain", arguments, program=program)
    processes.wait_until("the chain", node.answers, _START_SECONDS)
    return node


def deploy_contract(processes: Processes, made: Outside, log: Path) -> None:
    """Put the contract on the chain, and wait until it stands there."""
    if made.chain is None:
        return
    history = made.anchor(log).history
    processes.wait_until(
        "the contract", lambda: history.deploy(now=time.time()) is None, _START_SECONDS
    )
