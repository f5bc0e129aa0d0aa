"""BentoML: a plain and a streamed API, in two worker processes."""

from pathlib import Path

import pytest

from tests.compat.environments import environment_of, needs_servers
from tests.compat.serving import lines_of, proved, serve

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_servers]

APPLICANT = {"income": 41_000, "debt": 9_000}


def test_calls_of_a_service_are_decisions_streamed_too(tmp_path: Path) -> None:
    environment = environment_of("bentoml")
    quiet = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(tmp_path / "bento")}
    with serve(lines_of("BentoML"), environment, tmp_path, "/readyz", quiet) as server:
        scored = server.ask("/score", json=APPLICANT)
        explained = server.ask("/explain", json=APPLICANT)
        mounted = server.ask("/reviews/7/appeal", json={"reason": "an error"})
        refused = server.ask("/score", json={"income": "much"})
    assert scored.json() == 0.82
    assert explained.got == b"income is 41000.0. debt is 9000.0. "
    assert refused.status == 400
    decisions = proved(server.log, [scored, explained, mounted, refused])
    assert [one["route"] for one in decisions] == [
        *("/score", "/explain", "/reviews/{id}/appeal", "/score")
    ]
    assert {one["outcome"] for one in decisions} == {"completed"}
    assert {(one["model"], one["version"]) for one in decisions} == {("credit", "1")}
    assert decisions[0]["data"]["response"]["split"] == "json"
    assert decisions[1]["data"]["response"]["mediaType"] == "text/event-stream"
