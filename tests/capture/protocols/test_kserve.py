"""KServe v1 and v2 as servers and clients write them, and everything that can go wrong.

Shapes are those of the Open Inference Protocol's REST page, of its binary tensor data
extension, of KServe's v1 page and of TensorFlow Serving's.
"""

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.kserve import KServeV1, KServeV2
from auditlog.capture.reading import Reading, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read

V1 = Traffic(
    path="/v1/models/sklearn-iris:predict",
    status=200,
    request=b'{"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}',
    request_type="application/json",
    response=b'{"predictions":[1,1]}',
    response_type="application/json",
)
V2 = Traffic(
    path="/v2/models/iris/versions/3/infer",
    status=200,
    request=b'{"id":"42","inputs":[{"name":"input0","shape":[2,2],"datatype":"UINT32",'
    b'"data":[1,2,3,4]},{"name":"input1","shape":[3],"datatype":"BOOL",'
    b'"data":[true,false,true]}],"outputs":[{"name":"output0"}]}',
    request_type="application/json",
    response=b'{"model_name":"iris","model_version":"3","id":"42","outputs":[{"name":'
    b'"output0","shape":[2,1],"datatype":"FP32","data":[1.0,1.1]}]}',
    response_type="application/json",
)
_TENSORS = struct.pack("<4f", 1.0, -1.0, 2.0, 0.0)
BINARY = Traffic(
    path="/v2/models/mymodel/infer",
    status=200,
    request=b'{"inputs":[{"name":"input0","shape":[3,2],"datatype":"FP16",'
    b'"parameters":{"binary_data_size":12}}],'
    b'"outputs":[{"name":"output0","parameters":{"binary_data":true}}]}'
    + b"\x00\xff"
    * 6,
    request_type="application/octet-stream",
    response=b'{"model_name":"mymodel","outputs":[{"name":"output0","shape":[3,2],'
    b'"datatype":"FP32","parameters":{"binary_data_size":16}}]}' + _TENSORS,
    response_type="application/octet-stream",
)


def changed(traffic: Traffic, **fields: Any) -> Traffic:
    return msgspec.structs.replace(traffic, **fields)


def v1(**fields: Any) -> Reading | None:
    return read(KServeV1(), changed(V1, **fields))


def v2(**fields: Any) -> Reading | None:
    return read(KServeV2(), changed(V2, **fields))


def test_a_v1_call_is_a_batch_of_one_model() -> None:
    assert v1() == Reading(
        protocol="kserve.v1",
        operation="predict",
        requested_model="sklearn-iris",
        items=2,
    )


def test_a_v2_call_says_which_version_answered() -> None:
    assert v2() == Reading(
        protocol="kserve.v2",
        operation="predict",
        requested_model="iris@3",
        answered_model="iris@3",
        response_id="42",
        items=2,
    )


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/m:predict", "m"),
        ("/v1/models/m:predict/", "m"),
        ("/serving/v1/models/half_plus_two:predict", "half_plus_two"),
        ("/v1/models/m/versions/7:predict", "m@7"),
        ("/v1/models/m/labels/stable:predict", "m@stable"),
        ("/v1/models/a%2Fb%20c:predict", "a/b c"),
    ],
)
def test_v1_names_the_model_in_the_path(path: str, model: str) -> None:
    reading = v1(path=path)
    assert reading is not None
    assert reading.requested_model == model


def test_an_explanation_is_another_operation() -> None:
    reading = v1(path="/v1/models/m:explain", response=b'{"explanations":[]}')
    assert reading is not None
    assert reading.operation == "explain"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m",
        "/v1/models/m:classify",
        "/v1/models/:predict",
        "/v1/models/m/x:predict",
        "/models/m:predict",
        "/v1/projects/p/endpoints/1:predict",
        "/v2/models/m/infer",
        f"/v1/models/{'m' * 257}:predict",
    ],
)
def test_other_paths_are_not_v1(path: str) -> None:
    assert not KServeV1().claims(changed(V1, path=path))


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/m",
        "/v2/models/m/ready",
        "/v2/models/m/versions/infer",
        "/v2/models//infer",
        "/v2/infer",
        "/v1/models/m:predict",
    ],
)
def test_other_paths_are_not_v2(path: str) -> None:
    assert not KServeV2().claims(changed(V2, path=path))


@pytest.mark.parametrize("protocol", [KServeV1(), KServeV2()])
def test_behind_a_path_of_ones_own_no_model_was_asked(protocol: Any) -> None:
    own = changed(V1, path="/score")
    assert not protocol.claims(own)
    assert protocol.read(own).requested_model is None
    assert protocol.read(own).operation == "predict"


@pytest.mark.parametrize(
    ("request_body", "items"),
    [
        (b'{"instances":[]}', 0),
        (b'{"instances":[1.0,2.0,5.0]}', 3),
        (b'{"signature_name":"s","inputs":[[1],[2]]}', 2),
        (b'{"inputs":{"a":[1,2,3],"b":[4,5,6]}}', 3),
        (b'{"inputs":{}}', None),
        (b'{"instances":{"a":1}}', None),
        (b'{"instances":null}', None),
        (b'{"instances":[NaN,"NaN \\" NaN",-Infinity]}', 3),
        (b'{"instances":[1,2', None),
        (b"[[1],[2]]", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_v1_counts_rows_of_what_it_can_read(
    request_body: bytes, items: int | None
) -> None:
    reading = v1(request=request_body)
    assert reading is not None
    assert reading.items == items


@pytest.mark.parametrize(
    ("inputs", "items"),
    [
        ('[{"name":"a","shape":[4096,10],"datatype":"FP32","data":[]}]', 4096),
        ('[{"name":"a","shape":[],"datatype":"FP32","data":[1]}]', None),
        ('[{"name":"a","datatype":"FP32"},{"name":"b","shape":[5]}]', 5),
        ('[{"name":"a","shape":[-1,3]}]', None),
        ('[{"name":"a","shape":[true]}]', None),
        ('[{"name":"a","shape":[99999999999999999999]}]', None),
        ('[{"name":"a","shape":"3"}]', None),
        ("[]", None),
        ("null", None),
        ('"x"', None),
    ],
)
def test_v2_takes_the_batch_from_the_first_shape(
    inputs: str, items: int | None
) -> None:
    reading = v2(request=f'{{"inputs":{inputs}}}'.encode())
    assert reading is not None
    assert reading.items == items


def test_a_model_without_versions_answers_without_one() -> None:
    answer = b'{"model_name":"m","model_version":null,"outputs":[]}'
    reading = v2(path="/v2/models/m/infer", response=answer)
    assert reading is not None
    assert (reading.requested_model, reading.answered_model) == ("m", "m")


@pytest.mark.parametrize("name", ["", "n" * 257])
def test_a_name_that_is_none_is_left_out(name: str) -> None:
    reading = v2(response=json.dumps({"model_name": name, "id": 7}).encode())
    assert reading is not None
    assert reading.answered_model is None
    assert reading.response_id is None


@pytest.mark.parametrize("protocol", [v1, v2])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":"Missing \\"instances\\" of customer 4711"}'),
        (404, b'{"detail":"Model with name m does not exist."}'),
        (502, b"<html>Bad Gateway</html>"),
        (500, b""),
        (200, b'{"error":"the model failed"}'),
    ],
)
def test_an_error_is_one_whatever_the_status_and_its_message_stays_out(
    protocol: Any, status: int, body: bytes
) -> None:
    reading = protocol(status=status, response=body)
    assert reading.completeness == "error_frame"
    assert reading.error_type is None
    assert "4711" not in msgspec.json.encode(reading).decode()


@pytest.mark.parametrize("protocol", [v1, v2])
def test_an_answer_that_is_no_json_is_of_another_protocol(protocol: Any) -> None:
    assert protocol(response_type="text/html; charset=utf-8") is None
    assert protocol(response_type="application/vnd.acme+json") is not None
    assert protocol(response_type=None) is not None


@pytest.mark.parametrize("protocol", [v1, v2])
def test_an_answer_that_never_began_has_no_end(protocol: Any) -> None:
    reading = protocol(status=None, response=b"", response_type=None)
    assert reading.completeness == "no_terminator"


@pytest.mark.parametrize("protocol", [v1, v2])
def test_of_a_capped_answer_only_the_end_counts(protocol: Any) -> None:
    whole = protocol(response=b'{"predictions":[', tail=b"1]}\n", capped=True)
    assert (whole.completeness, whole.partial) == ("complete", True)
    cut = protocol(response=b'{"predictions":[', tail=b"1,1", capped=True)
    assert (cut.completeness, cut.partial) == ("no_terminator", True)


def test_binary_tensors_after_the_json_are_seen() -> None:
    reading = read(KServeV2(), BINARY)
    assert reading is not None
    assert reading.items == 3
    assert reading.answered_model == "mymodel"
    assert reading.completeness == "complete"


def test_a_request_that_is_all_binary_has_no_rows_to_count() -> None:
    reading = read(KServeV2(), changed(BINARY, request=b"\x93NUMPY\x01\x00"))
    assert reading is not None
    assert reading.items is None


def test_sizes_that_are_no_numbers_are_not_checked() -> None:
    answer = b' {"outputs":[{"parameters":{"binary_data_size":"16"}}]}' + _TENSORS
    reading = read(KServeV2(), changed(BINARY, response=answer))
    assert reading is not None
    assert reading.completeness == "complete"


@pytest.mark.parametrize(
    ("protocol", "traffic"),
    [(KServeV1(), V1), (KServeV2(), V2), (KServeV2(), BINARY)],
    ids=["v1", "v2", "binary"],
)
def test_an_answer_cut_at_any_byte_has_no_end(protocol: Any, traffic: Traffic) -> None:
    for sent, cut in cuts(traffic):
        reading = read(protocol, cut)
        assert reading is not None, sent
        assert reading.completeness == "no_terminator", sent


@given(st.data())
def test_no_damage_raises_anything(data: st.DataObject) -> None:
    protocol, traffic = data.draw(
        st.sampled_from([(KServeV1(), V1), (KServeV2(), V2), (KServeV2(), BINARY)])
    )
    request = data.draw(damaged(traffic.request))
    response = data.draw(damaged(traffic.response))
    read(protocol, changed(traffic, request=request, response=response))  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [v1, v2])
@pytest.mark.parametrize(
    "answer",
    [
        b'{"predictions":[1],"error":null}',
        b'{"predictions":[0.7],"error":0.1}',
        b'{"outputs":[],"error":"none"}',
        b'{"scores":[1],"error":""}',
        b'{"scores":[1],"error":false}',
    ],
)
def test_a_field_for_errors_that_holds_none_is_no_error(
    protocol: Any, answer: bytes
) -> None:
    assert protocol(response=answer).completeness == "complete"


@pytest.mark.parametrize("protocol", [v1, v2])
def test_a_call_without_bodies_asked_no_model(protocol: Any) -> None:
    empty = {"request": b"", "response": b"", "response_type": None}
    assert protocol(status=200, **empty) is None
    assert protocol(status=503, **empty).completeness == "error_frame"


@pytest.mark.parametrize("protocol", [v1, v2])
def test_plain_text_without_a_media_type_is_no_json_that_was_cut(protocol: Any) -> None:
    assert protocol(response=b"0.5\n0.25\n", response_type=None) is None
