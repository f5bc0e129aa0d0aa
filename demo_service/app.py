"""The model service: FastAPI, some models, and one line for the audit log.

Two versions of one model judge tumours, and a text model answers questions in the ways
of OpenAI and Anthropic (`demo_service.text`).

Run it with ``uvicorn demo_service.app:app``. Everything about the log comes from
``AUDITLOG_*`` variables; nothing in the handlers knows that they are recorded, except
that each says which model version decides.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

import auditlog
from auditlog.web.api import router
from demo_service.models import NAME, Model, Prediction, load_data, train_models
from demo_service.named import name_in_log
from demo_service.text.answer import Clerk
from demo_service.text.model import train_text_model
from demo_service.text.routes import add_text_model

__all__ = ["app", "create_service"]

_MAX_INSTANCES = 256


def _all_measurements(features: dict[str, float]) -> dict[str, float]:
    expected = set(load_data().features)
    missing, unknown = expected - features.keys(), features.keys() - expected
    if missing or unknown:
        msg = (
            f"expected the {len(expected)} measurements of the data set; missing: "
            f"{_listed(missing)}; unknown: {_listed(unknown)}"
        )
        raise ValueError(msg)
    return features


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


Features = Annotated[dict[str, FiniteFloat], AfterValidator(_all_measurements)]
Version = Annotated[
    Literal["1", "2"],
    Query(description="1: logistic regression, 2: gradient boosting"),
]


class Patient(BaseModel):
    """Whose tumour it is."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=256)]


class Row(BaseModel):
    """One tumour to judge."""

    model_config = ConfigDict(extra="forbid")

    features: Features
    patient: Patient | None = None


class Rows(BaseModel):
    """Several tumours to judge in one call."""

    model_config = ConfigDict(extra="forbid")

    instances: Annotated[list[Features], Field(min_length=1, max_length=_MAX_INSTANCES)]


class Answer(BaseModel):
    """What the model says about one tumour."""

    label: Literal["malignant", "benign"]
    score: float
    """Probability of ``malignant``."""
    version: str


class Answers(BaseModel):
    """What the model says about several tumours, in the order they came."""

    predictions: list[Answer]


def create_service() -> FastAPI:
    """Train the models and return the service, without any audit log around it."""
    models = train_models()
    clerk = Clerk(train_text_model())
    service = FastAPI(title="Breast cancer, second opinion", version="1.0")
    service.add_exception_handler(RequestValidationError, _refuse)

    @service.get("/healthz")
    def healthz() -> dict[str, str]:
        text = {clerk.model.name: clerk.model.digest}
        return {model.version: model.digest for model in models.values()} | text

    @service.post("/predict")
    def predict(row: Row, version: Version = "2") -> Answer:
        model = _chosen(models, version)
        return _answer(model, model.predict([row.features])[0])

    @service.post("/predict/batch")
    def predict_batch(rows: Rows, version: Version = "2") -> Answers:
        model = _chosen(models, version)
        predictions = model.predict(rows.instances)
        return Answers(predictions=[_answer(model, found) for found in predictions])

    @service.post("/predict/stream", response_class=StreamingResponse)
    def predict_stream(rows: Rows, version: Version = "2") -> StreamingResponse:
        events = _events(_chosen(models, version), rows.instances)
        return StreamingResponse(events, media_type="text/event-stream")

    add_text_model(service, clerk)
    return service


async def _refuse(_request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request, without sending its measurements back."""
    assert isinstance(error, RequestValidationError)
    said = [{name: one[name] for name in ("loc", "msg")} for one in error.errors()]
    return JSONResponse({"detail": said}, status_code=422)


def _chosen(models: Mapping[str, Model], version: str) -> Model:
    """Return the model to use, having told the audit log which one it is."""
    model = models[version]
    name_in_log(NAME, model.version, model.digest)
    return model


def _answer(model: Model, found: Prediction) -> Answer:
    return Answer(label=found.label, score=found.score, version=model.version)


def _events(model: Model, rows: list[dict[str, float]]) -> Iterator[str]:
    """Yield one server-sent event a row, as soon as it is scored, then a last one."""
    for number, row in enumerate(rows):
        found = model.predict([row])[0]
        data = {"instance": number, "label": found.label, "score": found.score}
        yield f"event: prediction\ndata: {json.dumps(data)}\n\n"
    yield f"event: done\ndata: {json.dumps({'count': len(rows)})}\n\n"


app = create_service()
# The one line that logs every decision; and where auditors ask, which could as well be
# a process of its own, `auditlog serve`.
app.add_middleware(auditlog.AuditMiddleware)
app.include_router(router())
