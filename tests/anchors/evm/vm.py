"""The contract in an EVM in this process, called by its ABI."""

import ast
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed

from auditlog.anchors.evm.artifact import load_artifact
from auditlog.anchors.evm.contract import ERRORS
from auditlog.anchors.evm.keccak import keccak

__all__ = ["Reverted", "Vm"]

ARTIFACT = load_artifact()
FUNCTIONS = {one["name"]: one for one in ARTIFACT["abi"] if one["type"] == "function"}


class Reverted(Exception):  # noqa: N818 # it is what happened
    """The contract refused: its error and the arguments of that."""


class Vm:
    """An EVM with the contract on it."""

    def __init__(self) -> None:
        self.tester = EthereumTester(PyEVMBackend())
        self.accounts: list[str] = list(self.tester.get_accounts())
        made = self._mined({"data": ARTIFACT["bytecode"]})
        self.contract: str = made["contract_address"]
        self.deployed = int(made["gas_used"])

    def call(
        self, name: str, *arguments: Any, sender: int = 0, gas: int = 3_000_000
    ) -> tuple[Any, ...]:
        """Return what a function answers; nothing is changed."""
        message = {**self._message(name, arguments, sender), "gas": gas}
        try:
            data = self.tester.call(message)
        except TransactionFailed as error:
            raise _reverted(error) from None
        types = [one["type"] for one in FUNCTIONS[name]["outputs"]]
        return tuple(decode(types, bytes.fromhex(data[2:])))

    def send(self, name: str, *arguments: Any, sender: int = 0) -> dict[str, Any]:
        """Change something; return the receipt."""
        self.call(name, *arguments, sender=sender)  # reverts with its reason
        return self._mined(self._message(name, arguments, sender))

    def _mined(self, message: dict[str, Any]) -> dict[str, Any]:
        full = {"from": self.accounts[0], "gas": 3_000_000, **message}
        hash_ = self.tester.send_transaction(full)
        receipt: dict[str, Any] = self.tester.get_transaction_receipt(hash_)
        assert receipt["status"] == 1
        return receipt

    def _message(
        self, name: str, arguments: Sequence[Any], sender: int
    ) -> dict[str, Any]:
        types = [one["type"] for one in FUNCTIONS[name]["inputs"]]
        selector = keccak(f"{name}({','.join(types)})".encode())[:4]
        data = selector + encode(types, arguments)
        return {
            "data": "0x" + data.hex(),
            "from": self.accounts[sender],
            "gas": 3_000_000,
            "to": self.contract,
        }


def _reverted(error: TransactionFailed) -> Reverted:
    """Return our error; the message is the repr of what the contract gave."""
    data = ast.literal_eval(str(error))
    name = ERRORS[data[:4].hex()]
    inputs = next(one for one in ARTIFACT["abi"] if one.get("name") == name)["inputs"]
    return Reverted(name, *decode([one["type"] for one in inputs], data[4:]))
