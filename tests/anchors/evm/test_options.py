"""A table of kind evm: what it may say, and keys that stay where they are."""

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from auditlog.anchors.evm.anchor import configure
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.options import GWEI, parse_options
from auditlog.core.errors import AuditLogError, ConfigurationError
from tests.e2e.processes import free_port

KEY = secrets.token_hex(32)
TABLE: dict[str, Any] = {
    "chain_id": 1,
    "key_file": "chain.key",
    "rpc": "https://node.example/v3/",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "chain.key"
    path.touch(0o600)
    path.write_text(KEY + "\n")
    return tmp_path


class TestTable:
    def test_the_least(self, directory: Path) -> None:
        anchor = configure("chain", TABLE, directory)
        assert (anchor.name, anchor.kind) == ("chain", "evm")
        found = parse_options(TABLE, directory)
        assert found.nodes[0].host == "node.example"
        assert found.nodes[0].path == "/v3"
        assert (found.contract, found.mode) == (ADDRESS, "batch")
        assert (found.confirmations, found.agree) == (None, 1)
        assert (found.max_fee, found.stuck_after) == (200 * GWEI, 900)

    @pytest.mark.parametrize(("count", "agree"), [(1, 1), (2, 2), (3, 2), (4, 3)])
    def test_more_than_half_must_agree(
        self, directory: Path, count: int, agree: int
    ) -> None:
        nodes = [f"https://node{number}.example" for number in range(count)]
        assert parse_options({**TABLE, "rpc": nodes}, directory).agree == agree

    def test_everything(self, directory: Path) -> None:
        urls = directory / "rpc.txt"
        urls.touch(0o600)
        urls.write_text("https://a.example/secret\nhttp://127.0.0.1:8545\n")
        table = {
            "agree": 1,
            "chain_id": 10,
            "confirmations": 12,
            "contract": "0x" + "Ab" * 20,
            "key_file": "chain.key",
            "max_fee": 5,
            "mode": "advance",
            "rpc_file": "rpc.txt",
            "stuck_after": 60,
            "timeout": 5,
        }
        found = parse_options(table, directory)
        assert [node.path for node in found.nodes] == ["/secret", ""]
        assert found.contract == b"\xab" * 20
        assert (found.mode, found.confirmations, found.agree) == ("advance", 12, 1)
        assert (found.max_fee, found.stuck_after, found.timeout) == (5 * GWEI, 60, 5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"more": 1},
                "unknown key 'more' of an anchor of kind evm: expected agree,",
            ),
            ({"chain_id": None}, "expected chain_id .* number from 1"),
            ({"chain_id": "1"}, "expected chain_id .* number from 1"),
            ({"chain_id": True}, "expected chain_id .* number from 1"),
            ({"rpc": None}, "expected rpc or rpc_file"),
            ({"rpc_file": "x"}, "expected rpc or rpc_file"),
            ({"rpc": []}, "expected rpc as a URL or a list"),
            ({"rpc": 7}, "expected rpc as a URL or a list"),
            ({"rpc": ["https://a.example"] * 2}, "expected rpc as a URL or a list"),
            ({"rpc": "ftp://a.example"}, "expected the http or https URL of a node"),
            ({"rpc": "https://a.example/?key=hunter2"}, "expected the http or https"),
            ({"key_file": None}, "expected key_file .* the name of a file"),
            ({"key_file": "missing"}, "cannot read .*missing: No such file"),
            ({"contract": "0x12"}, "expected contract as 0x and 20 bytes"),
            ({"contract": "12" * 20}, "expected contract as 0x and 20 bytes"),
            ({"contract": "0x" + "zz" * 20}, "expected contract as 0x and 20 bytes"),
            ({"mode": "anchor"}, 'expected mode = "batch" or "advance"'),
            ({"confirmations": "safe"}, 'expected confirmations = "finalized" or'),
            ({"confirmations": 0}, "expected confirmations .* number from 1"),
            ({"agree": 2}, "expected agree .* number from 1 to 1"),
            ({"max_fee": 1.5}, "expected max_fee .* number from 1"),
            ({"stuck_after": 0}, "expected stuck_after .* number from 1"),
            ({"timeout": 601}, "expected timeout .* number from 1 to 600"),
        ],
        ids=lambda value: None if isinstance(value, str) else str(value)[:30],
    )
    def test_refused(
        self, directory: Path, change: dict[str, Any], message: str
    ) -> None:
        table = {**TABLE, **change}
        table = {key: value for key, value in table.items() if value is not None}
        with pytest.raises(ConfigurationError, match=message) as caught:
            configure("chain", table, directory)
        assert "hunter2" not in str(caught.value)


class TestKey:
    @pytest.mark.parametrize(
        "text", ["", "0x", "zz" * 32, "11" * 31, "11" * 33, "00" * 32, "ff" * 32]
    )
    def test_no_key(self, directory: Path, text: str) -> None:
        (directory / "chain.key").write_text(text)
        with pytest.raises(ConfigurationError, match="a private key of 32 b") as caught:
            configure("chain", TABLE, directory)
        assert not text.strip("0x") or text not in str(caught.value)

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
    def test_others_may_read_it(self, directory: Path, mode: int) -> None:
        (directory / "chain.key").chmod(mode)
        with pytest.raises(
            ConfigurationError, match="can be read by others: chmod 600"
        ):
            configure("chain", TABLE, directory)

    def test_so_may_they_the_urls(self, directory: Path) -> None:
        (directory / "rpc.txt").write_text("https://a.example/secret")
        (directory / "rpc.txt").chmod(0o644)
        table = {**TABLE, "rpc_file": "rpc.txt"}
        del table["rpc"]
        with pytest.raises(ConfigurationError, match=r"rpc\.txt can be read by others"):
            configure("chain", table, directory)

    def test_it_stands_nowhere(
        self, directory: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = f"http://127.0.0.1:{free_port()}/v3/hunter2"
        anchor = configure("chain", {**TABLE, "rpc": url, "timeout": 1}, directory)
        with pytest.raises(AuditLogError) as caught:
            anchor.submit(bytes(32), [], now=0)
        held = [repr(anchor), repr(anchor.history), repr(vars(anchor)), caplog.text]
        held += [repr(vars(anchor._wallet)), repr(vars(anchor._wallet._account))]
        held += [repr(caught.value), str(caught.value)]
        for text in held:
            assert KEY not in text
            assert str(int(KEY, 16)) not in text
        assert "hunter2" not in held[0] + held[1] + held[-1] + held[-2]

    def test_another_key_than_at_first(self, directory: Path) -> None:
        account = configure("chain", TABLE, directory)._wallet._account
        (directory / "chain.key").write_text("11" * 32)
        with pytest.raises(ConfigurationError, match=r"was of 0x.* and is of 0x"):
            account.sign({})

    def test_without_the_extra(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "eth_account", None)
        with pytest.raises(ConfigurationError, match="need the extra evm of decision-"):
            configure("chain", TABLE, directory)

    def test_a_directory_or_no_permission(self, directory: Path) -> None:
        os.mkdir(directory / "folder")  # noqa: PTH102 # as an operator would
        with pytest.raises(ConfigurationError, match=r"cannot read .*folder"):
            configure("chain", {**TABLE, "key_file": "folder"}, directory)
