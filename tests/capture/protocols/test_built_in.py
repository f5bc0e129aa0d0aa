"""Which protocol an exchange is taken to be of, among those that are built in."""

import msgspec
import pytest

from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import Traffic
from tests.capture.protocols import (
    test_anthropic,
    test_kserve,
    test_mlflow,
    test_ollama,
    test_sklearn,
)

EXCHANGES = {
    "anthropic.messages": test_anthropic.traffic(test_anthropic.TEXT),
    "kserve.v1": test_kserve.V1,
    "kserve.v2": test_kserve.V2,
    "mlflow": test_mlflow.traffic(test_mlflow.TALK, test_mlflow.CHAT),
    "ollama.chat": test_ollama.traffic("/api/chat", test_ollama.CHAT),
    "ollama.generate": test_ollama.traffic("/api/generate", test_ollama.TEXT),
    "ollama.embed": test_ollama.traffic("/api/embed", test_ollama.EMBED),
    "sklearn": test_sklearn.traffic({"features": [1, 2]}, {"prediction": 1}),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_each_is_known_without_a_word_of_configuration(name: str) -> None:
    found = Protocols().read(EXCHANGES[name], None)
    assert found.fault is None
    assert found.reading is not None
    assert found.reading.protocol == name


@pytest.mark.parametrize("name", EXCHANGES)
def test_each_may_be_chosen_for_a_path_of_ones_own(name: str) -> None:
    own = msgspec.structs.replace(EXCHANGES[name], path="/v7/ask")
    found = Protocols(routes=[("/v7/*", name)]).read(own, None)
    assert found.reading is not None
    assert found.reading.protocol == name
    assert found.reading.completeness == "complete"


@pytest.mark.parametrize("family", ["kserve", "ollama"])
def test_a_family_may_be_chosen(family: str) -> None:
    protocols = Protocols(protocol=family)
    for name, traffic in EXCHANGES.items():
        if name.startswith(family):
            found = protocols.read(traffic, None)
            assert found.reading is not None
            assert found.reading.protocol == name


@pytest.mark.parametrize("path", ["/chat", "/messages", "/predict", "/generate", "/"])
def test_an_exchange_of_no_protocol_is_left_alone(path: str) -> None:
    other = Traffic(
        path=path,
        status=200,
        request=b'{"text":"Hello","messages":[]}',
        request_type="application/json",
        response=b'{"reply":"Hi","label":"greeting"}',
        response_type="application/json",
    )
    assert Protocols().read(other, None).reading is None
