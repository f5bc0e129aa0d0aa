"""The accelerator gives what the definition gives, on anything."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture import splitting
from auditlog.capture.splitting import fast_members
from auditlog.core.commitment import MAX_MEMBERS, is_json, members
from tests.json_texts import bodies
from tests.vectorset import b64, own


def test_vectors_agree() -> None:
    for vector in own("commitments")["vectors"]:
        for side in ("request", "response"):
            body, depth = b64(vector[side]), vector["depth"]
            found = fast_members(side, body, depth)
            assert found == members(side, body, depth), vector["name"]
            if is_json(vector[f"{side}Type"]):
                split = "none" if found is None else "json"
                assert split == vector["split"][side], vector["name"]


@given(bodies(), st.integers(0, 8))
def test_accelerator_and_definition_agree(body: bytes, depth: int) -> None:
    assert fast_members("request", body, depth) == members("request", body, depth)


@given(bodies(), st.data())
def test_they_agree_on_damaged_bodies(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 2))
    put = data.draw(st.sampled_from([b"", b",", b'"', b"[", b"}", b"\\", b"0", b" "]))
    damaged = body[:at] + put + body[at + cut :]
    assert fast_members("r", damaged, 2) == members("r", damaged, 2)


@given(st.binary(max_size=60), st.integers(-1, 9))
def test_they_agree_on_any_bytes(body: bytes, depth: int) -> None:
    assert fast_members("r", body, depth) == members("r", body, depth)


# Each of these is one that msgspec alone would answer otherwise, or that the proof of
# its answer has to notice.
HARD = [
    b'{"a":1,"a":2}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":1, "a":2}',
    b'{"a":1,"a":1}',
    b'{"a": 1, "a": 2}',
    b'{"ab":1,"a":22,"a":3}',
    b'{"a":{"b":1,"b":2}}',
    b'{"a": 1,"b": 2}',
    b'{"a":1 ,"b":2}',
    b'{ "a":1}',
    b'{"\\u0061":1}',
    b'{"a\\"":1}',
    b'{"a\\\\":1}',
    b'{"\\ud800":1}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"\xff":1}',
    '{"é":1,"b":"ü"}'.encode(),
    '{"é": 1, "b": "ü"}'.encode(),
    '{"é": 1,"b":"ü"}'.encode(),
    '{"é":1,"\\u00e9":2}'.encode(),
    b"\xef\xbb\xbf{}",
    b' {"a":1}\n',
    b"\x0c[1]",
    b"[1]\x00",
    b'"text"',
    b"{}",
    b"{ }",
    b"[ ]",
    b"",
    b"[1 , 2]",
    b"[01]",
    b"[[01]]",
    b"[NaN]",
    b'["\x7f"]',
    b'["\x1f"]',
    b"[" * 64 + b"]" * 64,
    b"[" * 65 + b"]" * 65,
    b'{"a":' * 64 + b"1" + b"}" * 64,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"[" * 100_000,
    b'{"a":"' + b"[" * 200 + b'"}',
    b"[%b]" % b",".join([b"1"] * MAX_MEMBERS),
    b"[%b]" % b",".join([b"1"] * (MAX_MEMBERS + 1)),
    b'{"%b":1}' % (b"n" * 1016),
    b'{"%b":1}' % (b"n" * 1017),
    b"[" + b" " * (1 << 20) + b"]",
    b'{"instances":[[1],[2]],"dataframe_split":{"data":[[1]]}}',
    b'{"x/y~z":{"p/q":[1]}}',
]


@pytest.mark.parametrize("number", range(len(HARD)))
def test_they_agree_where_msgspec_alone_would_not(number: int) -> None:
    body = HARD[number]
    for depth in (1, 2, 8):
        assert fast_members("r", body, depth) == members("r", body, depth)


def test_usual_bodies_need_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(prefix: str, body: bytes, depth: int) -> None:
        raise AssertionError("the definition was asked")

    value = {"model": "m", "messages": [{"role": "user", "content": 'a "é"\n'}], "t": 1}
    expected = {}
    texts = [
        json.dumps(value, ensure_ascii=ascii_only, separators=separators)
        for ascii_only in (True, False)
        for separators in ((",", ":"), (", ", ": "))
    ]
    for text in texts:
        expected[text] = members("request", text.encode(), 3)
    monkeypatch.setattr(splitting, "members", never)
    for text in texts:
        assert fast_members("request", text.encode(), 3) == expected[text] != []
    with pytest.raises(AssertionError, match="the definition was asked"):
        fast_members("request", json.dumps(value, indent=1).encode(), 1)


def test_msgspec_keeps_the_last_of_two_names_silently() -> None:
    # The reason for all this. Should it ever refuse, the proof could go.
    decoded = msgspec.json.decode(b'{"a":1,"a":2}', type=dict[str, msgspec.Raw])
    assert {name: bytes(value) for name, value in decoded.items()} == {"a": b"2"}
