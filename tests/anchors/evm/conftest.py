"""One node for all tests of a session; each test finds the chain as it was."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.log.directory import create_log
from tests.anchors.evm.chain import Anvil, install, running
from tests.anchors.evm.kept import Kept
from tests.harness import check_whole_log
from tests.log.builders import config_of


@pytest.fixture(scope="session")
def npm() -> None:
    """See to it that anvil and solc are there."""
    install()


@pytest.fixture(scope="session")
def anvil(npm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """A chain with the contract on it."""
    with running() as node:
        directory = tmp_path_factory.mktemp("deployer")
        node.anchor(directory).history.deploy(now=time.time())
        node.mine()
        yield node


@pytest.fixture
def chain(anvil: Anvil) -> Iterator[Anvil]:
    """The same, put back when the test is over."""
    snapshot = anvil.rpc("evm_snapshot")
    yield anvil
    anvil.rpc("anvil_dropAllTransactions")
    anvil.rpc("evm_revert", snapshot)


@pytest.fixture
def kept(chain: Anvil, tmp_path: Path) -> Iterator[Kept]:
    """A log whose history the chain is to keep."""
    with create_log(config_of(tmp_path / "audit")) as log:
        yield Kept(log, chain)
        check_whole_log(log.paths.directory)
