"""The benchmark runs, and its report says what was measured."""

import json
from pathlib import Path

import pytest

from tests.bench import privacy
from tests.bench.__main__ import main
from tests.bench.arms import BARE
from tests.bench.peers import MIDDLEWARE, NOT_INSTALLED
from tests.bench.report import (
    Row,
    at_most,
    compare,
    missing,
    ratio_at_least,
    ratio_at_most,
    show,
)
from tests.bench.requests import comparison, contestants
from tests.bench.timing import Cost
from tests.bench.workload import KIB, kib_of_json

KEYS = ["name", "ours", "peer", "unit", "ratio", "target", "gate", "ok"]


def test_start_up_is_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    assert main(["--quick", "--only", "f", "--output", str(output)]) == 0
    rows = json.loads(output.read_bytes())
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    by_name = {row["name"]: row for row in rows}
    cold = by_name["f cold auditlog verify"]
    assert cold["unit"] == "ms"
    assert cold["ours"] > by_name["f bare interpreter"]["ours"] > 0
    assert (cold["gate"], cold["target"]) == ("goal", "<= 250")
    assert cold["ok"] is (cold["ours"] <= 250)
    assert cold["name"] in capsys.readouterr().out


def test_groups_are_known() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "z"])


def test_a_goal_is_met_or_missed_by_the_figure_it_is_about() -> None:
    assert compare("x", 3, "µs", None, at_most(3)).ok is True
    assert compare("x", 3.1, "µs", 100, at_most(3)).ok is False
    assert compare("x", 30, "1/s", 3, ratio_at_least(10)).ok is True
    assert compare("x", 29, "1/s", 3, ratio_at_least(10)).ok is False
    assert compare("x", 1, "µs", 5, ratio_at_most(0.2)).ratio == 0.2
    # Noise can leave nothing to divide by: then a goal about a ratio is not met.
    assert compare("x", 1, "µs", -1, ratio_at_most(0.2))[4:] == (
        None,
        "ratio <= 0.2",
        "goal",
        False,
    )
    assert compare("x", 9, "µs", 1, at_most(3), gate=False).gate == "info"
    assert compare("x", 9, "µs").ok is None


def test_what_is_missing_is_listed_as_skipped() -> None:
    row = missing("x", 1, "µs", NOT_INSTALLED, at_most(2))
    assert row == Row("x", 1, NOT_INSTALLED, "µs", None, "<= 2", "skipped", None)
    assert "skipped" in show([row])


def test_every_contestant_has_a_row_whether_or_not_peers_are_installed() -> None:
    figures = {name: [10.0, 11.0] for name in contestants()}
    goals = {"spool, depth 1": ratio_at_most(0.2), "sync, depth 1": at_most(15)}
    rows = list(comparison("x", "µs", figures, goals, gate=True))
    assert len(rows) == 8
    assert {row.gate for row in rows} >= {"goal", "info"}
    judged = next(row for row in rows if "added, sync, depth 1" in row.name)
    assert (judged.ours, judged.gate, judged.ok) == (0, "goal", True)


def test_privacy_is_held_to_the_goals_of_every_decision() -> None:
    spent = {BARE: [Cost(0, 100e-6, 50e-6)] * 2}
    spent |= {arm.name: [Cost(0, 120e-6, 60e-6)] * 2 for arm in privacy.ARMS}
    spent |= {one.name: [Cost(0, 400e-6, 90e-6)] * 2 for one in MIDDLEWARE}
    rows = list(privacy.rows_of(spent))
    loops = [row for row in rows if "loop CPU added" in row.name]
    assert [row.ours for row in loops] == [pytest.approx(10)] * len(privacy.ARMS)
    assert {(row.gate, row.target, row.ok) for row in loops} == {
        ("goal", "<= 15", True)
    }
    judged = [row for row in rows if row.target == "ratio <= 0.2"]
    assert len(judged) == len(privacy.ARMS)
    assert {row.gate for row in judged} in ({"goal"}, {"skipped"})


def test_a_decision_has_one_kib_of_json_each_way() -> None:
    assert len(kib_of_json()) == KIB
    assert len(json.loads(kib_of_json())) == 4
