"""MLflow's scoring server: a scikit-learn model that MLflow saved."""

import subprocess
from pathlib import Path

import pytest

from tests.compat.environments import environment_of, needs_servers
from tests.compat.serving import lines_of, proved, serve

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_servers]

TRAIN = """
import mlflow.sklearn
import pandas
from sklearn.linear_model import LogisticRegression

data = pandas.DataFrame({"income": [10.0, 20.0, 40.0], "debt": [9.0, 8.0, 2.0]})
fitted = LogisticRegression().fit(data, ["refuse", "refuse", "grant"])
# Named, so that MLflow does not find them out by starting another process.
mlflow.sklearn.save_model(fitted, "model", pip_requirements=["scikit-learn"])
"""
ROWS = {"columns": ["income", "debt"], "data": [[12.0, 9.5], [55.0, 0.5]]}
CSV = {"content-type": "text/csv"}


def test_invocations_are_decisions_and_so_are_refusals(tmp_path: Path) -> None:
    environment = environment_of("mlflow")
    trained = [str(environment / "bin" / "python"), "-c", TRAIN]
    subprocess.run(trained, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    lines = lines_of("MLflow scoring server")
    with serve(lines, environment, tmp_path, "/ping") as server:
        rows = server.ask("/invocations", json={"dataframe_split": ROWS})
        table = server.ask("/invocations", content=b"income,debt\n51,2\n", headers=CSV)
        refused = server.ask("/invocations", json={"rows": []})
    assert rows.json() == {"predictions": ["refuse", "grant"]}
    assert table.json() == {"predictions": ["grant"]}
    assert refused.status == 400
    decisions = proved(server.log, [rows, table, refused])
    assert {one["route"] for one in decisions} == {"/invocations"}
    assert {one["outcome"] for one in decisions} == {"completed"}
    assert {(one["model"], one["version"]) for one in decisions} == {("credit", "1")}
    assert [decisions[0]["reading"][key] for key in ("protocol", "items")] == [
        *("mlflow", 2)
    ]
    data = [one["data"] for one in decisions]
    assert [one["request"]["split"] for one in data] == ["json", "none", "json"]
    assert [one["http.response.status_code"] for one in data] == [200, 200, 400]
