"""Who a model is: what may be said of it, and what is refused."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditlog
from auditlog.core.errors import ConfigurationError
from auditlog.models.identity import Model

DIGEST = "sha256:" + "0f" * 32


def test_a_model_is_named_by_text() -> None:
    assert Model.parse("credit") == Model("credit")
    assert Model.parse("credit@3") == Model("credit", "3")
    assert Model.parse("team@bank/credit@3") == Model("team@bank/credit", "3")
    assert auditlog.Model is Model


@pytest.mark.parametrize("text", ["", "@3", "credit@", "a\nb", "a" * 257, "a\ud800"])
def test_what_no_entry_could_say_is_refused(text: str) -> None:
    expected = "is a string of 1 to 256 printable characters, got a text of"
    with pytest.raises(ConfigurationError, match=expected):
        Model.parse(text)


@pytest.mark.parametrize(
    "digest", ["", "0f" * 32, "sha256:" + "0F" * 32, DIGEST + "\n", "md5:00", 7]
)
def test_a_digest_has_one_spelling(digest: str) -> None:
    with pytest.raises(ConfigurationError, match="64 lower-case hex digits, got "):
        Model("credit", digest=digest)


def test_details_are_sorted_and_part_of_the_identity() -> None:
    one = Model("credit", details=(("b", "2"), ("a", "1")))
    assert one.details == (("a", "1"), ("b", "2"))
    assert one == Model("credit", details=(("a", "1"), ("b", "2")))
    assert one != Model("credit")
    assert len({one, Model("credit"), Model("credit", details=one.details)}) == 2


@pytest.mark.parametrize(
    ("details", "match"),
    [
        ((("a", "1"), ("a", "2")), "unique names, in lower case, in the details"),
        ((("A", "1"),), "unique names, in lower case"),
        ((("", "1"),), "unique names, in lower case"),
        ((("a", ""),), "detail 'a' is a string of 1 to 256 printable"),
        ((("a", "1\n"),), "detail 'a' is a string"),
        ((("a", 1),), "detail 'a' is a string"),
        (("a",), "as pairs of a name and a value"),
        (7, "as pairs of a name and a value"),
        (tuple((f"a{n}", "1") for n in range(65)), "at most 64 details"),
        (tuple((f"a{n}", "\U0001f40d" * 256) for n in range(17)), "16384 bytes"),
    ],
)
def test_details_that_no_entry_could_say_are_refused(
    details: object, match: str
) -> None:
    with pytest.raises(ConfigurationError, match=match):
        Model("credit", details=details)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sealed", "match"),
    [
        ((("a", "text"),), "expected bytes as what is sealed"),
        ((("a/b", b""),), "unique names, in lower case, in the sealed"),
        ((("a", bytes(1 << 18)), ("b", b"x")), "at most 262144 bytes in 64 parts"),
    ],
)
def test_what_is_sealed_is_bounded(sealed: object, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        Model("credit", sealed=sealed)  # type: ignore[arg-type]


def test_what_is_sealed_tells_no_models_apart_and_is_not_shown() -> None:
    one = Model("credit", sealed=(("parameters", b"secret"),))
    assert one == Model("credit")
    assert "secret" not in repr(one)


@given(st.text(), st.none() | st.text(), st.none() | st.text())
def test_any_text_gives_a_model_or_our_error(
    name: str, version: str | None, digest: str | None
) -> None:
    try:
        model = Model(name, version, digest)
    except ConfigurationError:
        pass
    else:
        assert copy.copy(model) == model == pickle.loads(pickle.dumps(model))


def test_a_handler_may_name_a_whole_identity() -> None:
    model = Model("credit", "3", DIGEST, (("format", "joblib"),))
    with auditlog.decision("test", enabled=False) as decision:
        decision.set_model(model)
        assert decision.model is model
        with pytest.raises(ConfigurationError, match="expected a Model alone, or"):
            decision.set_model(model, version="4")
        assert decision.model is model
