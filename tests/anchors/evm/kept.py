"""A log that a chain keeps the history of, asked by a clock of ours."""

import time
from pathlib import Path
from typing import Any

from auditlog.anchors.evm.anchor import EvmAnchor
from auditlog.core.checkpoint import Checkpoint
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.anchor_work import Outcome, When
from auditlog.log.anchoring import Anchoring
from auditlog.log.directory import LogDirectory
from auditlog.log.sequencer import Sequencer
from tests.anchoring import write_anchors
from tests.anchors.evm.chain import CHAIN_ID, Anvil
from tests.log.builders import config_of, gap_items

__all__ = ["NOW", "Kept", "write_anchor"]

NOW = time.time()


class Kept:
    """A log that a chain keeps the history of."""

    def __init__(self, log: LogDirectory, chain: Anvil, **options: Any) -> None:
        self.log = log
        self.chain = chain
        self.now = NOW
        self.anchoring: Anchoring
        self.configure(**options)

    def configure(self, **options: Any) -> None:
        """Name the anchor anew, as after a restart."""
        directory = self.log.paths.directory
        write_anchor(directory, self.chain, **options)
        config = config_of(directory, anchor_interval=600.0)
        self.anchoring = Anchoring(self.log, config, lambda: self.now)

    @property
    def anchor(self) -> EvmAnchor:
        (anchor,) = self.anchoring._read()
        assert isinstance(anchor, EvmAnchor)
        return anchor

    def grow(self) -> int:
        self.log.store.append(gap_items(3, origin=self.log.origin))
        return self.sign()

    def sign(self) -> int:
        log = self.log
        return Sequencer(log.store, log.origin, log.signers).step()

    def round(self, when: When = "now", after: float = 601.0) -> list[Outcome]:
        self.now += after
        return self.anchoring.round(when)

    def checkpoint(self, size: int) -> Checkpoint:
        return Ledger(self.log.store, self.log.origin).checkpoint(size)

    def head(self) -> tuple[int, bytes]:
        return self.anchor.history.head(self.log.origin)[:2]


def write_anchor(directory: Path, chain: Anvil, **options: Any) -> None:
    """Name the chain as an anchor that keeps the history of a log."""
    if not (directory / "chain.key").exists():
        chain.key_file(directory)
    table: dict[str, Any] = {
        "kind": "evm",
        "name": "chain",
        "rpc": chain.url,
        "chain_id": CHAIN_ID,
        "key_file": "chain.key",
        "mode": "advance",
        "confirmations": 1,
    }
    write_anchors(directory, {**table, **options})
