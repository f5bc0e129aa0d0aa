"""Which protocol reads an exchange: by option, by route, one's own, path, shape."""

from typing import Any

import msgspec
import pytest

from auditlog.capture.protocols.registry import Found, Protocols
from auditlog.capture.reading import Reading, Traffic
from auditlog.core.errors import ConfigurationError
from tests.capture.protocols import openai_traffic as sent

CHAT = sent.stream(*sent.OPENAI)
ELSEWHERE = msgspec.structs.replace(CHAT, path="/ask")
NONE_OF_THEM = sent.answer({"score": 0.7, "why": "income"}, "/score/17")


def own(name: str, claimed: bool = True, says: Any = "reading") -> Any:
    class Own:
        @property
        def name(self) -> str:
            return name

        def claims(self, traffic: Traffic) -> bool:
            if says == "claim fails":
                raise KeyError("dear Ms. Doe")
            return claimed

        def read(self, traffic: Traffic) -> Any:
            if says == "fails":
                raise RecursionError("dear Ms. Doe")
            return Reading(protocol=name, operation="x") if says == "reading" else says

    return Own()


def protocol_of(found: Found) -> str | None:
    assert found.fault is None
    return None if found.reading is None else found.reading.protocol


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/chat/completions/", "/v1/completions", "/ask", ""],
)
def test_what_says_it_is_a_chat_is_one_at_any_path(path: str) -> None:
    traffic = msgspec.structs.replace(CHAT, path=path)
    assert protocol_of(Protocols().read(traffic, None)) == "openai.chat"


@pytest.mark.parametrize(
    ("path", "body", "protocol"),
    [
        ("/v1/chat/completions", {"choices": []}, "openai.chat"),
        ("/v1/completions", {"choices": []}, "openai.completions"),
        ("/v1/responses", {"output": []}, "openai.responses"),
        ("/ask", {"object": "response", "output": []}, "openai.responses"),
        ("/v1/embeddings", {"data": []}, "openai.embeddings"),
        ("/ask", {"data": [{"object": "embedding"}]}, "openai.embeddings"),
        ("/v1/moderations", {"results": []}, "openai.moderations"),
    ],
)
def test_every_protocol_is_asked(path: str, body: Any, protocol: str) -> None:
    assert protocol_of(Protocols().read(sent.answer(body, path), None)) == protocol


def test_most_exchanges_are_of_none() -> None:
    assert Protocols().read(NONE_OF_THEM, "/score/{id}") == Found()


def test_what_the_path_promised_in_vain_may_still_be_known_by_its_shape() -> None:
    embeddings = sent.answer({"data": [{"object": "embedding"}]}, "/v1/completions")
    assert protocol_of(Protocols().read(embeddings, None)) == "openai.embeddings"


def test_with_none_nothing_is_read() -> None:
    assert Protocols("none").read(CHAT, None) == Found()


def test_a_chosen_protocol_reads_without_being_asked_whether_it_would() -> None:
    unlike = sent.answer({"choices": [{"message": {"content": "x"}}]}, "/ask")
    assert protocol_of(Protocols().read(unlike, None)) is None
    assert protocol_of(Protocols("openai.chat").read(unlike, None)) == "openai.chat"
    assert Protocols("openai.responses").read(unlike, None) == Found()


def test_of_a_chosen_family_those_that_claim_come_first() -> None:
    openai = Protocols("openai")
    response = sent.answer({"output": []}, "/v1/responses")
    assert protocol_of(openai.read(response, None)) == "openai.responses"
    unlike = sent.answer({"choices": []}, "/ask")
    assert protocol_of(openai.read(unlike, None)) == "openai.chat"
    assert openai.read(NONE_OF_THEM, None) == Found()


def test_a_route_may_have_a_protocol_of_its_own() -> None:
    protocols = Protocols(
        "none", [("/v1/*", "openai.chat"), ("/v1/*", "none"), ("/ask", "auto")]
    )
    assert protocol_of(protocols.read(CHAT, "/v1/chat")) == "openai.chat"
    assert protocol_of(protocols.read(CHAT, None)) == "openai.chat"
    assert protocol_of(protocols.read(CHAT, "/ask")) == "openai.chat"
    assert protocol_of(protocols.read(CHAT, "/other")) is None
    assert protocol_of(protocols.read(ELSEWHERE, None)) == "openai.chat"


def test_routes_without_end_are_not_all_remembered() -> None:
    protocols = Protocols("auto", [("/x/*", "none")])
    for place in range(3000):
        assert protocols.read(CHAT, f"/x/{place}") == Found()
    assert len(protocols._by_route) <= 1024


def test_a_route_that_another_thread_forgets_meanwhile_is_known_all_the_same() -> None:
    class Forgetful(dict[str, Any]):
        def __setitem__(self, route: str, asked: Any) -> None:
            """Keep nothing, as if all was cleared at once."""

    protocols = Protocols("none", [("/v1/*", "openai.chat")])
    protocols._by_route = Forgetful()
    assert protocol_of(protocols.read(CHAT, "/v1/chat")) == "openai.chat"


def test_ones_own_are_asked_first_in_their_order() -> None:
    protocols = Protocols(own=[own("no", claimed=False), own("one"), own("two")])
    assert protocol_of(protocols.read(CHAT, None)) == "one"
    assert protocol_of(protocols.read(NONE_OF_THEM, None)) == "one"


def test_who_says_nothing_leaves_it_to_the_next() -> None:
    protocols = Protocols(own=[own("shy", says=None)])
    assert protocol_of(protocols.read(CHAT, None)) == "openai.chat"


def test_ones_own_may_be_chosen_and_may_stand_for_one_built_in() -> None:
    mine = [own("mine", claimed=False), own("openai.chat", claimed=False)]
    assert protocol_of(Protocols("mine", own=mine).read(CHAT, None)) == "mine"
    chosen = Protocols("openai.chat", own=mine).read(NONE_OF_THEM, None)
    assert protocol_of(chosen) == "openai.chat"


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ("fails", "protocol mine: RecursionError"),
        ("claim fails", "protocol mine: KeyError"),
        ({"text": "x"}, "protocol mine: no Reading"),
    ],
)
def test_a_fault_is_named_and_the_exchange_is_as_if_nobody_had_read_it(
    says: Any, fault: str
) -> None:
    found = Protocols(own=[own("mine", says=says)]).read(CHAT, None)
    assert found == Found(None, fault)


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": None},
        {"usage": {"n": "many"}},
        {"answers": None},
        {"completeness": ["complete"]},
        {"partial": 3},
        {"parameters": {'dear "Ms. Doe': 1}},
        {"attributes": {"": "x"}},
        {"usage": {"\ud800": 1}},
    ],
)
def test_a_reading_that_is_none_is_a_fault(fields: dict[str, Any]) -> None:
    reading = Reading(protocol="mine", operation="x", **fields)
    found = Protocols(own=[own("mine", says=reading)]).read(CHAT, None)
    assert found.reading is None
    assert found.fault in (
        "protocol mine: ValidationError",
        "protocol mine: ValueError",
    )


def test_a_sound_reading_of_ones_own_is_passed_on_as_it_is() -> None:
    reading = Reading(
        protocol="mine",
        operation="x",
        parameters={"gen_ai.request.seed": 1 << 80, "mine.scores": [0.5, None]},
        usage={"gen_ai.usage.input_tokens": 1},
    )
    found = Protocols(own=[own("mine", says=reading)]).read(CHAT, None)
    assert found.reading is reading


@pytest.mark.parametrize("name", ["", "openai.", "openai.cat", "chat", "OPENAI", "*"])
def test_a_protocol_that_is_not_there_is_refused(name: str) -> None:
    expected = "a protocol is one of auto, none, openai.chat, .*, got '"
    with pytest.raises(ConfigurationError, match=expected):
        Protocols(name)
    with pytest.raises(ConfigurationError, match=expected):
        Protocols(routes=[("/x", name)])


@pytest.mark.parametrize("name", ["", "auto", "none", "Mine", "a b", "x" * 99, 7, None])
def test_a_name_that_could_not_stand_in_the_log_is_refused(name: Any) -> None:
    expected = r"a protocol's name is up to four words .*; got that of Own"
    with pytest.raises(ConfigurationError, match=expected):
        Protocols(own=[own(name)])
