from pathlib import Path
from typing import Any

import pytest

from auditlog.core.record import DECISION, format_id, parse_entry
from auditlog.core.verify import parse_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.reader import Reader
from demo_service import dishonest_operator
from demo_service.client import Reply
from demo_service.deployment import start_stranger
from demo_service.processes import DemoError, Processes
from demo_service.trials import CAUGHT, MISSED, PASSED, Finding, Trials
from tests.demo.conftest import Run, demo_of


def results(findings: list[Finding]) -> list[str]:
    return [finding.result for finding in findings]


def said(findings: list[Finding]) -> str:
    return "\n".join(finding.what for finding in findings)


def entries_of(log: LogDirectory) -> list[bytes]:
    return log.store.read(0, log.store.size())


# --- what catches it ------------------------------------------------------------------


def test_edited_content_is_caught_when_it_is_unsealed(
    demo: Run, trials: Trials
) -> None:
    findings = trials.edit_content()
    assert results(findings) == [CAUGHT, CAUGHT]
    assert "unsealing: not what the entry committed to" in said(findings)
    index = demo.evidence.verdict.index
    assert f"check: vault row {index}, and nothing else" in said(findings)


@pytest.mark.parametrize("act", ["delete_entry", "swap_entries"])
def test_a_moved_entry_is_caught_by_check_and_by_the_receipt(
    demo: Run, trials: Trials, act: str
) -> None:
    findings = getattr(trials, act)()
    assert results(findings) == [CAUGHT, CAUGHT]
    index = demo.evidence.verdict.index
    assert f"receipt: verifies, but the log has another entry {index}" in said(findings)


def test_a_deleted_decision_leaves_a_hole_in_the_numbers(
    demo: Run, trials: Trials
) -> None:
    entry = parse_entry(parse_receipt(demo.evidence.receipt).entry)
    hole = f"number {entry.data['sequence']} missing"
    assert hole in said(trials.delete_entry())


def test_a_rebuilt_tree_passes_the_check_and_is_caught_by_others(
    demo: Run, trials: Trials, witness_urls: list[str]
) -> None:
    findings = trials.rebuild(witness_urls)
    assert results(findings) == [PASSED, CAUGHT, CAUGHT, CAUGHT, CAUGHT]
    index = demo.evidence.verdict.index
    text = said(findings)
    assert "witnesses: 3 of 3, 422: consistency proof leads to old root" in text
    assert "witnesses: 3 of 3, 409: saw 6" in text
    assert "policy: refuses its receipts, as no witness cosigned" in text
    assert f"receipts: the log signed two entries {index}: forked" in text


def test_a_witness_that_never_saw_the_log_catches_nothing(
    demo: Run, trials: Trials, tmp_path: Path
) -> None:
    vkeys = tuple(key.verifier.vkey for key in demo.policy.logs)
    made = demo_of(tmp_path, vkeys)
    with Processes(tmp_path) as processes:
        findings = trials.rebuild_unseen(start_stranger(processes, made))
    assert results(findings) == [MISSED]
    assert "200" in said(findings)


def test_an_answer_around_the_middleware_is_not_caught(trials: Trials) -> None:
    findings = trials.bypass(Reply(200, {}, b"{}"))
    assert results(findings) == [MISSED]


# --- no foregone conclusions: each claim fails when its act does ----------------------


def nothing(*_: Any) -> None:
    """An operator who does nothing after all."""


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        ("edit_content", "nothing was refused"),
        ("delete_entry", "no signed root contradicts the log"),
        ("swap_entries", "no signed root contradicts the log"),
    ],
)
def test_an_act_that_changes_nothing_is_not_reported_as_caught(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, act: str, complaint: str
) -> None:
    monkeypatch.setattr(dishonest_operator, act, nothing)
    with pytest.raises(DemoError, match=complaint):
        getattr(trials, act)()


def test_a_history_that_was_not_rebuilt_is_not_reported_as_caught(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, witness_urls: list[str]
) -> None:
    monkeypatch.setattr(dishonest_operator, "rebuild_without", nothing)
    with pytest.raises(DemoError, match="expected HTTP status 422, got 200"):
        trials.rebuild(witness_urls)


def test_a_badly_forged_history_does_not_pass_as_well_made(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, witness_urls: list[str]
) -> None:
    monkeypatch.setattr(
        dishonest_operator, "rebuild_without", dishonest_operator.delete_entry
    )
    with pytest.raises(DemoError, match="well made, it fails the check"):
        trials.rebuild(witness_urls)


def test_the_witness_that_saw_the_log_is_not_passed_off_as_a_new_one(
    trials: Trials, witness_urls: list[str]
) -> None:
    with pytest.raises(DemoError, match="expected HTTP status 200, got 409"):
        trials.rebuild_unseen(witness_urls[0])


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (Reply(200, {"decision-id": "x"}, b""), "left a trace"),
        (Reply(500, {}, b"broken"), "expected HTTP status 200, got 500: broken"),
    ],
)
def test_a_logged_answer_is_not_passed_off_as_one_around_the_log(
    trials: Trials, reply: Reply, complaint: str
) -> None:
    with pytest.raises(DemoError, match=complaint):
        trials.bypass(reply)


# --- the operator is good at it -------------------------------------------------------


def test_every_act_is_on_a_copy(demo: Run, trials: Trials) -> None:
    with open_log(demo.output / "log") as log:
        before = entries_of(log)
    trials.delete_entry()
    trials.swap_entries()
    with open_log(demo.output / "log") as log:
        assert entries_of(log) == before
        assert check_log(log).problems == ()


def test_a_deleted_entry_is_gone_with_all_that_belonged_to_it(
    demo: Run, tmp_path: Path
) -> None:
    index = demo.evidence.verdict.index
    copy = dishonest_operator.copy_log(demo.output / "log", tmp_path / "copy")
    with open_log(copy) as log:
        before, vault = entries_of(log), log.store.sealed(index + 1)
    dishonest_operator.delete_entry(copy, index)
    with open_log(copy) as log:
        assert entries_of(log) == before[:index] + before[index + 1 :]
        assert log.store.sealed(index) == vault
        id_ = parse_entry(before[index]).id
        assert log.store.by_id(id_) is None


def test_swapped_entries_are_swapped_and_still_open(demo: Run, tmp_path: Path) -> None:
    index = demo.evidence.verdict.index
    copy = dishonest_operator.copy_log(demo.output / "log", tmp_path / "copy")
    with open_log(copy) as log:
        before = entries_of(log)
    dishonest_operator.swap_entries(copy, index - 1, index)
    with open_log(copy) as log:
        after = entries_of(log)
        content = Reader(log).content(demo.evidence.verdict.id)
    assert after[index - 1 : index + 1] == before[index - 1 : index + 1][::-1]
    assert b"malignant" in content.response


def test_an_edit_that_would_change_nothing_is_refused(
    demo: Run, tmp_path: Path
) -> None:
    copy = dishonest_operator.copy_log(demo.output / "log", tmp_path / "copy")
    index = demo.evidence.verdict.index
    with pytest.raises(ValueError, match="does not hold b'harmless'"):
        dishonest_operator.edit_content(copy, index, b"harmless", b"benign")


def test_the_rebuilt_history_is_complete_in_itself(demo: Run, tmp_path: Path) -> None:
    verdict = demo.evidence.verdict
    copy = dishonest_operator.copy_log(demo.output / "log", tmp_path / "copy")
    with open_log(copy) as log:
        before = entries_of(log)
    dishonest_operator.rebuild_without(copy, verdict.index)
    with open_log(copy) as log:
        report = check_log(log)
        after = [parse_entry(entry) for entry in entries_of(log)]
        reader = Reader(log)
        made = [entry for entry in after if entry.type == DECISION]
        last = reader.content(format_id(made[-1].id))
    assert (report.problems, report.unchecked, report.checkpoints) == ((), (), 1)
    assert len(after) == len(before) - 1 + dishonest_operator.INVENTED
    assert verdict.id not in {format_id(entry.id) for entry in after}
    assert sorted(entry.data["sequence"] for entry in made) == list(range(len(made)))
    assert last.response.startswith(b"{")


def test_the_demo_left_the_rebuilt_history_to_look_at(demo: Run) -> None:
    with open_log(demo.output / "operator" / "rebuilt") as log:
        assert check_log(log).problems == ()
