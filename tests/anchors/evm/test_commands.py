"""`auditlog anchor deploy`, and what `status` says of a block, on a real chain."""

import contextlib
import io
from pathlib import Path

import pytest

from auditlog.anchors.checking import check_attestation
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.trust import parse_trust
from auditlog.cli import anchoring, trusting
from auditlog.cli.output import Output
from auditlog.cli.parser import parse
from auditlog.core.errors import ConfigurationError
from auditlog.log.anchor_answer import attestation_of
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.directory import create_log
from tests.anchors.evm.chain import Anvil, running
from tests.anchors.evm.kept import Kept, write_anchor
from tests.command import Done
from tests.log.builders import config_of


def auditlog(*arguments: object) -> Done:
    """Run a command here: each process of its own would load eth-account again."""
    command = parse([str(one) for one in arguments])
    module, _, name = command.home.partition(":")
    function = getattr({"anchoring": anchoring, "trusting": trusting}[module], name)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = function(command.options, Output(machine=command.options.json))
    return Done(status, out.getvalue(), err.getvalue())


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
    message = r"name of an anchor of kind evm in \S+anchors.toml, got 'other'"
    with pytest.raises(ConfigurationError, match=message):
        auditlog("anchor", "deploy", "other", "--dir", directory)
    message = f"expected contract as {STANDS}, where it is deployed to"
    with pytest.raises(ConfigurationError, match=message):
        auditlog("anchor", "deploy", "chain", "--dir", directory, "--dry-run")


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


def test_whoever_holds_the_template_against_the_chain_can_verify(kept: Kept) -> None:
    size = kept.grow()
    kept.round()
    kept.chain.mine()
    kept.round("look")
    done = auditlog("anchor", "trust", "--dir", kept.log.paths.directory)
    trust = parse_trust(done.out)
    assert trust.chains[0].blocks[0].hex() == kept.chain.block()["hash"][2:]
    row = Ledger(kept.log.store, kept.log.origin).stored("chain", size)
    assert row is not None
    digest = Ledger(kept.log.store, kept.log.origin).digest(size)
    evidence = attestation_of(row)[0].evidence
    assert check_attestation("evm", digest, evidence, trust).party == "chain"
