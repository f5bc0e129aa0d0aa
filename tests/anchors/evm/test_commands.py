"""`auditlog anchor deploy`, and what `status` says of a block, on a real chain."""

from pathlib import Path

from auditlog.anchors.evm.contract import ADDRESS
from auditlog.log.directory import create_log
from tests.anchors.evm.chain import Anvil, running
from tests.anchors.evm.kept import Kept, write_anchor
from tests.command import auditlog
from tests.log.builders import config_of

STANDS = "0x" + ADDRESS.hex()


def test_the_contract_is_deployed_once(npm: None, tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    create_log(config_of(directory)).close()
    deploy = ("anchor", "deploy", "chain", "--dir", directory)
    with running() as fresh:
        write_anchor(directory, fresh)
        done = auditlog(*deploy, "--dry-run")
        assert (done.status, fresh.number()) == (11, 1)
        assert "state     missing\n" in done.out
        done = auditlog(*deploy)
        assert done.status == 12
        assert f"contract     {STANDS}\n" in done.out
        assert "transaction  0x" in done.out
        assert auditlog(*deploy).status == 12, "it is on its way, and not sent again"
        fresh.mine()
        assert len(fresh.block()["transactions"]) == 1
        document = auditlog(*deploy, "--json").document()
        assert document == {
            "ok": True,
            "contract": STANDS,
            "stands": True,
            "transaction": None,
        }
        assert auditlog(*deploy, "--dry-run").status == 0


def test_only_where_an_anchor_says_so(chain: Anvil, tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    create_log(config_of(directory)).close()
    write_anchor(directory, chain, contract="0x" + "11" * 20)
    done = auditlog("anchor", "deploy", "other", "--dir", directory)
    assert done.status == 2
    assert "expected the name of an anchor of kind evm in" in done.err
    assert "got 'other'" in done.err
    done = auditlog("anchor", "deploy", "chain", "--dir", directory, "--dry-run")
    assert done.status == 2
    assert f"expected contract as {STANDS}, where it is deployed to" in done.err


def test_status_says_which_block_a_verifier_is_to_believe(kept: Kept) -> None:
    kept.grow()
    kept.round()
    kept.chain.mine()
    kept.round("look")
    block = kept.chain.block()
    status = ("anchor", "status", "--dir", kept.log.paths.directory)
    (anchor,) = auditlog(*status, "--json").document()["anchors"]
    assert anchor["says"]["hash"] == block["hash"]
    assert anchor["says"]["block"] == int(block["number"], 16)
    said = auditlog(*status).out
    assert f"says      chain 31337, block {anchor['says']['block']}, hash 0x" in said
