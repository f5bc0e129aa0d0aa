"""`auditlog.amend`: who, why and what are sealed apart, and hang on the decision."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

import auditlog
from auditlog.cli import main
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    NotFoundError,
    VerificationError,
)
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import format_entry, format_id, parse_entry, parse_id
from auditlog.core.verify import verify_receipt
from auditlog.log.amending import amendment_entry
from auditlog.log.amendment import AMENDMENT, Aftermath, AmendmentKind, amendment
from auditlog.log.check import check_log
from auditlog.log.content import pack, unpack, verify_content
from auditlog.log.directory import create_log, open_log
from auditlog.log.preparation import index_row
from auditlog.log.reader import Reader
from auditlog.log.runtime import runtime_for, stop_all
from auditlog.storage import Query
from tests.log.builders import ORIGIN, config_of, now_us

KINDS = get_args(AmendmentKind)
UNKNOWN = "01a21a63-1246-76c7-a80e-e3c3b6566d86"
NO_BODY = {"mediaType": "none", "split": "none", "state": "omitted"}


class Amended(NamedTuple):
    """A decision, and what was said later."""

    directory: Path
    decision: str
    amendment: str


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("amended") / "audit"
    stop_all()


@pytest.fixture(scope="module")
def decision(directory: Path) -> str:
    return auditlog.record("score", input=1, output=0.2, dir=directory, origin=ORIGIN)


@pytest.fixture(scope="module")
def amended(directory: Path, decision: str) -> Amended:
    id_ = auditlog.amend(
        decision,
        "override",
        by="j.doe",
        reason="income verified",
        label="paid",
        score=np.float64(0.75),
        attributes={"ticket": 7},
        dir=directory,
    )
    return Amended(directory, decision, id_)


@pytest.fixture
def amend(directory: Path, decision: str) -> Callable[..., str]:
    return partial(auditlog.amend, decision, dir=directory)


def entry_of(directory: Path, id_: str) -> dict[str, Any]:
    with open_log(directory, read_only=True) as log:
        encoded = Reader(log).decision(id_).entry
    assert encoded is not None
    data: dict[str, Any] = json.loads(encoded)
    return data


# --- what stands where ----------------------------------------------------------------


def test_in_clear_stand_the_decision_and_the_kind(amended: Amended) -> None:
    entry = entry_of(amended.directory, amended.amendment)
    assert entry["type"] == AMENDMENT
    commitment = entry["data"].pop("commitment")
    assert (commitment["depth"], commitment["v"]) == (0, 1)
    assert entry["data"] == {
        "decision": amended.decision,
        "kind": "override",
        "request": NO_BODY,
        "response": NO_BODY,
    }
    assert "subject" not in entry


def test_who_why_and_what_are_leaves_of_their_own(amended: Amended) -> None:
    with open_log(amended.directory, read_only=True) as log:
        content = Reader(log).content(amended.amendment)
    assert {name: json.loads(value) for name, value in content.context.items()} == {
        "annotations": {"ticket": 7},
        "outcome": {"result": {"label": "paid", "score": "0.75"}},
        "reason": {"text": "income verified"},
        "user": {"by": "j.doe"},
    }
    assert (content.request, content.response) == (b"", b"")


def test_nothing_but_the_kind_need_be_said(
    amend: Callable[..., str], directory: Path
) -> None:
    id_ = amend("appeal")
    with open_log(directory, read_only=True) as log:
        assert Reader(log).content(id_).context == {}


@given(
    st.sampled_from(KINDS),
    st.fixed_dictionaries(
        {},
        optional={
            "by": st.text(min_size=1, max_size=20),
            "reason": st.text(min_size=1, max_size=20),
            "label": st.text(min_size=1) | st.integers() | st.booleans(),
            "score": st.decimals(allow_nan=False, allow_infinity=False, places=3),
            "attributes": st.dictionaries(
                st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers(), max_size=3
            ),
        },
    ),
)
def test_whatever_is_said_is_committed_to_and_kept(
    kind: AmendmentKind, said: dict[str, Any]
) -> None:
    entry, content = amendment_entry(amendment(UNKNOWN, kind, **said), ORIGIN, now_us())
    assert parse_entry(format_entry(entry)).data["kind"] == kind
    assert index_row(entry).about == parse_id(UNKNOWN)
    plaintext = pack(content, ZstdCompressor())
    leaves = {leaf.path for leaf in verify_content(entry, unpack(plaintext))}
    wanted = {
        *("request", "response"),
        *(["context/user"] if "by" in said else []),
        *(["context/reason"] if "reason" in said else []),
        *(["context/outcome"] if {"label", "score"} & said.keys() else []),
        *(["context/annotations"] if said.get("attributes") else []),
    }
    assert leaves == wanted


# --- how it is found ------------------------------------------------------------------


def test_a_decision_shows_its_amendments_in_order(tmp_path: Path) -> None:
    where = tmp_path / "audit"
    one, other = (auditlog.record("job", input=n, dir=where) for n in range(2))
    kinds: tuple[AmendmentKind, ...] = ("appeal", "human_review", "override", "appeal")
    ids = [auditlog.amend(one, kind, dir=where) for kind in kinds]
    stop_all()
    with open_log(where, read_only=True) as log:
        reader = Reader(log)
        entries = [parse_entry(item) for item in reader.decision(one).amendments]
        assert [format_id(entry.id) for entry in entries] == ids
        assert [entry.data["kind"] for entry in entries] == list(kinds)
        assert reader.decision(other).amendments == ()
        assert (reader.decision(ids[0]).level, check_log(log).problems) == (
            *("included", ()),
        )


def test_what_the_middleware_says_stands_beside_it(tmp_path: Path) -> None:
    where = tmp_path / "audit"
    id_ = auditlog.record("job", input=1, dir=where, origin=ORIGIN)
    auditlog.amend(id_, "outcome", label=True, dir=where)
    config = config_of(where, checkpoint_interval=1.0)
    runtime_for(config).amend(parse_id(id_), "answer_withheld")
    stop_all()
    with open_log(where, read_only=True) as log:
        entries = Reader(log).decision(id_).amendments
    kinds = [parse_entry(entry).data["kind"] for entry in entries]
    assert kinds == ["outcome", "answer_withheld"]
    assert not set(get_args(Aftermath)) & set(KINDS)


def test_the_index_knows_which_decision_an_entry_is_about(amended: Amended) -> None:
    with open_log(amended.directory, read_only=True) as log:
        found = log.store.find(Query(about=parse_id(amended.decision), type=AMENDMENT))
        own = log.store.by_id(parse_id(amended.decision))
    assert amended.amendment in [format_id(row.id) for row in found]
    assert own is not None
    assert own.about is None


# --- receipts -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signed(amended: Amended) -> Amended:
    stop_all()
    return amended


def test_one_part_of_it_is_disclosed_and_verified_offline(signed: Amended) -> None:
    with open_log(signed.directory, read_only=True) as log:
        policy = log.policy_path.read_text("utf-8")
        data = Reader(log).receipt(signed.amendment, disclose=["context/outcome"])
    verdict = verify_receipt(data, policy)
    assert verdict.claim.startswith(f"amendment (override) {signed.amendment}")
    result = b'{"result":{"label":"paid","score":"0.75"}}'
    assert verdict.disclosed == (("context/outcome", result),)
    for said in (b"j.doe", b"income"):
        assert said not in data


def test_the_receipt_of_a_decision_tells_of_it(signed: Amended) -> None:
    with open_log(signed.directory, read_only=True) as log:
        policy = log.policy_path.read_text("utf-8")
        data = Reader(log).receipt(signed.decision)
    related = parse_receipt(data).related
    assert signed.amendment in [format_id(parse_entry(one.entry).id) for one in related]
    claim = verify_receipt(data, policy).claim
    assert f"; followed by amendment (override) {signed.amendment}" in claim


def test_all_of_it_can_be_opened(signed: Amended) -> None:
    with open_log(signed.directory, read_only=True) as log:
        policy = log.policy_path.read_text("utf-8")
        data = Reader(log).receipt(signed.amendment, open_all=True)
    assert len(verify_receipt(data, policy).disclosed) == 6


def test_another_value_is_refused(signed: Amended) -> None:
    with open_log(signed.directory, read_only=True) as log:
        policy = log.policy_path.read_text("utf-8")
        data = Reader(log).receipt(signed.amendment, disclose=["context/user"])
    receipt = parse_receipt(data)
    lie = receipt.disclosures[0]._replace(value=b'{"by":"a.n.other"}')
    forged = replace(receipt, disclosures=(lie,))
    with pytest.raises(VerificationError, match="expected"):
        verify_receipt(forged, policy)


# --- what is refused ------------------------------------------------------------------


def test_a_decision_that_is_not_there_is_refused(directory: Path) -> None:
    with pytest.raises(NotFoundError, match=f"no decision {UNKNOWN} in log {ORIGIN}"):
        auditlog.amend(UNKNOWN, "appeal", dir=directory)


def test_only_decisions_are_amended(amended: Amended) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"expected the id of a decision to amend, but .* is of auditlog\.amend",
    ):
        auditlog.amend(amended.amendment, "correction", dir=amended.directory)


def test_what_was_never_recorded_is_refused(directory: Path) -> None:
    nothing = "00000000-0000-0000-0000-000000000000"
    for unknown in (nothing, "Ada Lovelace", 5, None):
        with pytest.raises(MalformedError, match="a UUIDv7 in lower case, got some"):
            auditlog.amend(cast("Any", unknown), "appeal", dir=directory)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"kind": "praise"},
            "expected a kind of amendment out of appeal, correction, ",
        ),
        ({"kind": "answer_withheld"}, "expected a kind of amendment out of appeal"),
        ({"by": ""}, "expected who amends of 1 to 1024 characters, got 0"),
        ({"reason": "x" * 20_000}, "expected a reason of 1 to 16384 characters"),
        ({"label": object()}, "expected a label as JSON, got object in it"),
        ({"score": float("nan")}, "expected a score as a finite number"),
        ({"score": "high"}, "expected a score as a number, got str"),
        ({"attributes": ["a"]}, "expected attributes as values by name, got list"),
        ({"attributes": {"a b": 1}}, "expected names of attributes as up to 64"),
        ({"attributes": {"auditlog.x": 1}}, "not beginning with 'auditlog.'"),
        ({"attributes": {"a": "x" * 70_000}}, "expected at most 65536 bytes said"),
        ({"resaon": "x"}, "option 'resaon' is not known"),
    ],
)
def test_a_mistake_changes_nothing(
    amend: Callable[..., str], directory: Path, said: dict[str, Any], message: str
) -> None:
    with open_log(directory, read_only=True) as log:
        before = log.store.find(Query(type=AMENDMENT))
    with pytest.raises(ConfigurationError, match=message):
        amend(**{"kind": "appeal", **said})
    with open_log(directory, read_only=True) as log:
        assert log.store.find(Query(type=AMENDMENT)) == before


def test_disabled_says_nothing(tmp_path: Path) -> None:
    nothing = auditlog.amend(UNKNOWN, "appeal", dir=tmp_path / "audit", enabled=False)
    assert nothing == "00000000-0000-0000-0000-000000000000"
    assert not (tmp_path / "audit").exists()


def test_content_of_another_entry_is_found_by_a_check(tmp_path: Path) -> None:
    """As if somebody had swapped what two people said."""
    where = tmp_path / "audit"
    id_ = auditlog.record("job", input=1, dir=where)
    for name in ("one", "two"):
        auditlog.amend(id_, "human_review", by=name, dir=where)
    stop_all()
    with open_log(where) as log:
        rows = log.store.find(Query(type=AMENDMENT))
        one, two = (row.index for row in rows)
        with log.store._database.writing() as connection:
            swap = "UPDATE vault SET idx = ? WHERE idx = ?"
            for values in ((-1, one), (one, two), (two, -1)):
                connection.execute(swap, values)
    with open_log(where, read_only=True) as log:
        problems = [one.where for one in check_log(log).problems]
    assert problems == [f"vault row {two} to {one}"]


# --- the command line -----------------------------------------------------------------


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_line_amends_and_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "audit"
    id_ = auditlog.record("job", input=1, dir=where)
    stop_all()
    own = ("--dir", str(where))
    status, out, err = _run(
        *(capsys, "amend", id_, "--kind", "human_review", "--by", "Kim", *own),
        *("--reason", "as agreed", "--label", "stands", "--score", "0.50"),
        *("--attribute", "ticket=a=b"),
    )
    assert status == 0
    assert "`auditlog checkpoint` does" in err
    new = out.strip()
    assert _run(capsys, "checkpoint", *own)[0] == 0
    _, out, _ = _run(capsys, "show", id_, *own)
    assert ["afterwards", "human_review", new] in [x.split() for x in out.splitlines()]
    _, out, _ = _run(capsys, "show", new, "--content", *own)
    lines = [line.split() for line in out.splitlines()]
    assert ["kind", "human_review"] in lines
    assert ["about", id_] in lines
    for leaf in (
        '{"ticket":"a=b"}',
        '{"result":{"label":"stands","score":"0.50"}}',
        '{"text":"as agreed"}',
        '{"by":"Kim"}',
    ):
        assert leaf in out
    _, out, _ = _run(capsys, "show", id_, "--json", *own)
    (shown,) = json.loads(out)["amendments"]
    assert shown == {
        "id": new,
        "time": shown["time"],
        "kind": "human_review",
        "sealed": True,
    }


def test_it_says_the_same_in_json(
    amended: Amended, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = _run(
        *(capsys, "amend", amended.decision, "--kind", "outcome", "--json"),
        *("--label", "repaid", "--dir", str(amended.directory)),
    )
    said = json.loads(out)
    assert status == 0
    assert said == {
        "ok": True,
        "id": said["id"],
        "decision": amended.decision,
        "kind": "outcome",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no-id", "--kind", "appeal"], 2, "ID: expected a UUIDv7 in lower case"),
        ([UNKNOWN, "--kind", "appeal"], 11, f"no decision {UNKNOWN} in log"),
        ([UNKNOWN, "--kind", "appeal", "--score", "high"], 2, "expected a decimal nu"),
        ([UNKNOWN, "--kind", "appeal", "--score", "nan"], 2, "as a finite number"),
        ([UNKNOWN, "--kind", "appeal", "--attribute", "a"], 2, "takes NAME=TEXT, and "),
        (
            [UNKNOWN, "--kind", "appeal", "--attribute", "a=1", "--attribute", "a=2"],
            2,
            "takes NAME=TEXT, and each name once",
        ),
    ],
)
def test_the_command_line_refuses(
    amended: Amended,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    directory = ("--dir", str(amended.directory))
    got, _, err = _run(capsys, "amend", *arguments, *directory)
    assert got == status
    assert message in err


def test_a_kind_that_is_none_is_a_mistake_of_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["amend", UNKNOWN, "--kind", "praise"])
    assert "invalid choice: 'praise'" in capsys.readouterr().err


def test_a_copy_of_a_log_is_not_amended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path / "audit")
    with create_log(config) as log:
        log.claim()
    copy = shutil.copytree(tmp_path / "audit", tmp_path / "copy")
    status, _, err = _run(
        *(capsys, "amend", UNKNOWN, "--kind", "appeal", "--dir", str(copy))
    )
    assert status == 2
    assert "is a copy of the log in" in err


def test_a_decimal_is_kept_as_it_was_said() -> None:
    facts = amendment(UNKNOWN, "outcome", score=Decimal("0.10")).facts
    assert facts.leaves() == {"outcome": b'{"result":{"score":"0.10"}}'}


def test_an_error_holds_nothing_that_was_said(amend: Callable[..., str]) -> None:
    with pytest.raises(AuditLogError) as caught:
        amend("appeal", reason="s3cret" * 9999)
    assert "s3cret" not in str(caught.value)
