"""One node for all tests of a session; each test finds the chain as it was."""

import time
from collections.abc import Iterator

import pytest

from tests.anchors.evm.chain import Anvil, install, running


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
