"""Redaction by the middleware and by whoever records beyond HTTP, as a user sees it."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import auditlog
from auditlog.core.errors import ConfigurationError
from auditlog.testing import capture
from auditlog.web.middleware import AuditMiddleware

CANARY = "jane.doe@canary.example"


async def _score(request: Request) -> JSONResponse:
    await request.body()
    decision = auditlog.current()
    decision.annotate(note=f"from {CANARY}", code="kumquat")
    auditlog.record("within", input={"to": CANARY, "code": "kumquat"}, output=1)
    return JSONResponse({"ssn": "078-05-1120", "label": "approved"})


def application(directory: Path) -> AuditMiddleware:
    return AuditMiddleware(
        Starlette(routes=[Route("/score", _score, methods=["POST"])]),
        dir=directory,
        redact=[lambda text: text.replace("kumquat", "(fruit)")],
        redact_keys=["ssn"],
        redact_patterns=["email"],
    )


def test_all_that_is_captured_is_what_redaction_left(tmp_path: Path) -> None:
    with capture() as decisions:
        client = TestClient(application(tmp_path))
        answer = client.post("/score?to=" + CANARY, json={"ssn": 1, "age": 41})
        auditlog.amend(
            answer.headers["decision-id"],
            "correction",
            by=CANARY,
            reason="a kumquat",
            attributes={"ssn": "078-05-1120"},
        )
        within, scored = sorted(decisions, key=lambda one: one.route or "")
    assert answer.json() == {"ssn": "078-05-1120", "label": "approved"}
    assert scored.json("request") == {"ssn": "[redacted]", "age": 41}
    assert scored.json("response") == {"ssn": "[redacted]", "label": "approved"}
    assert scored.json("annotations") == {"note": "from [redacted]", "code": "(fruit)"}
    assert b"jane" not in scored.context["target"]
    assert within.json("request") == {"to": "[redacted]", "code": "(fruit)"}
    (amended,) = scored.amendments
    assert amended.json("user") == {"by": "[redacted]"}
    assert amended.json("reason") == {"text": "a (fruit)"}
    assert amended.json("annotations") == {"ssn": "[redacted]"}


def test_work_beyond_http_brings_rules_of_its_own(tmp_path: Path) -> None:
    with capture() as decisions:
        auditlog.record(
            "job",
            input="the plum",
            output={"ssn": 1},
            dir=tmp_path,
            redact=[lambda text: text.replace("plum", "(fruit)")],
            redact_keys=["ssn"],
        )
        (one,) = decisions
    assert one.request == b"the (fruit)"
    assert one.json("response") == {"ssn": "[redacted]"}


def test_a_redactor_that_fails_leaves_the_service_alone(tmp_path: Path) -> None:
    def fail(text: str) -> str:
        raise ValueError(text)

    with capture() as decisions:
        app = AuditMiddleware(
            Starlette(routes=[Route("/score", _score, methods=["POST"])]),
            dir=tmp_path,
            redact=[fail],
        )
        answer = TestClient(app).post("/score", json={"a": "b"})
        scored = next(one for one in decisions if one.route)
    assert answer.status_code == 200
    assert (scored.request, scored.response) == (b"", b"")
    withheld = {"annotations", "request", "response", "target"}
    assert scored.json("redaction") == dict.fromkeys(sorted(withheld), "withheld")


def test_bad_rules_stop_an_application_at_its_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="redact_patterns: expected"):
        AuditMiddleware(Starlette(), dir=tmp_path, redact_patterns=["("])
