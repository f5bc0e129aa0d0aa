"""Embeddings and moderations: how many inputs, whose model, how the answer ended."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from auditlog.capture.protocols.openai_batches import Embeddings, Moderations
from auditlog.capture.reading import Reading, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read
from tests.capture.protocols.openai_traffic import answer

PROTOCOL = Embeddings()
PATH = "/v1/embeddings"
REQUEST = {
    "input": ["a", "b", "c"],
    "model": "text-embedding-3-small",
    "encoding_format": "float",
}
VECTORS = [
    {"object": "embedding", "index": place, "embedding": [0.5, -1e-5] * 8}
    for place in range(3)
]
ANSWER = {
    "object": "list",
    "data": VECTORS,
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


def reading_of(traffic: Traffic) -> Reading:
    found = read(PROTOCOL, traffic)
    assert found is not None
    return found


def test_a_batch_of_embeddings_is_counted() -> None:
    assert reading_of(answer(ANSWER, PATH, request=REQUEST)) == Reading(
        protocol="openai.embeddings",
        operation="embeddings",
        requested_model="text-embedding-3-small",
        answered_model="text-embedding-3-small",
        parameters={"gen_ai.request.encoding_formats": ["float"]},
        usage={"gen_ai.usage.input_tokens": 8},
        items=3,
    )


@pytest.mark.parametrize(
    ("input_", "items"),
    [("a", None), ([1, 2], None), ([[1, 2], [3]], 2), ([], None), (["a"], 1)],
)
def test_a_single_text_is_no_batch(input_: Any, items: int | None) -> None:
    request = REQUEST | {"input": input_}
    assert reading_of(answer(ANSWER, PATH, request=request)).items == items


def test_vectors_as_base64_are_read() -> None:
    encoded = [one | {"embedding": "AAAAPwAAgL8="} for one in VECTORS]
    traffic = answer(ANSWER | {"data": encoded}, PATH, request=REQUEST)
    assert reading_of(traffic) == reading_of(answer(ANSWER, PATH, request=REQUEST))


def test_an_error_is_one_by_its_code() -> None:
    error = {"error": {"message": "dear Ms. Doe", "type": "invalid_request_error"}}
    reading = reading_of(answer(error, PATH, status=400, request=REQUEST))
    assert reading.completeness == "error_frame"
    assert reading.error_type == "invalid_request_error"
    assert b"Doe" not in msgspec.json.encode(reading)


def test_of_a_batch_too_large_to_be_kept_the_end_and_the_usage_are_known() -> None:
    body = json.dumps(ANSWER).encode()
    capped = msgspec.structs.replace(
        answer(ANSWER, PATH, request=REQUEST),
        response=body[:200],
        tail=body[-90:],
        capped=True,
    )
    reading = reading_of(capped)
    assert (reading.completeness, reading.partial) == ("complete", True)
    assert reading.usage == {"gen_ai.usage.input_tokens": 8}


def test_a_body_cut_at_any_byte_is_an_answer_without_an_end() -> None:
    for _, cut in cuts(answer(ANSWER, PATH, request=REQUEST)):
        reading = reading_of(cut)
        assert (reading.completeness, reading.items) == ("no_terminator", 3)


@given(damaged(json.dumps(ANSWER).encode()))
def test_a_damaged_body_gives_a_reading_or_none(body: bytes) -> None:
    read(PROTOCOL, answer(body, PATH))
    read(Moderations(), answer(body, "/v1/moderations"))


def test_embeddings_at_another_path_are_known_by_what_they_say_they_are() -> None:
    assert PROTOCOL.claims(answer(ANSWER, "/vectors"))
    assert not PROTOCOL.claims(answer({"object": "list", "data": []}, "/vectors"))


def test_moderations_are_counted() -> None:
    verdict = {"flagged": True, "categories": {"hate": True}}
    body = {"id": "modr-1", "model": "omni-moderation", "results": [verdict, verdict]}
    request = {"input": ["a", "b"], "model": "omni-moderation-latest"}
    assert read(
        Moderations(), answer(body, "/v1/moderations", request=request)
    ) == Reading(
        protocol="openai.moderations",
        operation="moderation",
        requested_model="omni-moderation-latest",
        answered_model="omni-moderation",
        response_id="modr-1",
        items=2,
    )


@pytest.mark.parametrize("protocol", [PROTOCOL, Moderations()])
def test_what_is_no_answer_of_this_kind_is_left_to_others(
    protocol: Embeddings | Moderations,
) -> None:
    assert protocol.read(answer({"outputs": []}, PATH)) is None
