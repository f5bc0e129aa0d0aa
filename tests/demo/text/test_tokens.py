import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_service.text.model import load_corpus, train_text_model
from demo_service.text.tokens import END, Tokenizer

TOKENIZER = train_text_model().tokenizer


def decoded(tokens: list[int]) -> bytes:
    return b"".join(map(TOKENIZER.decode, tokens))


@given(st.text(st.characters(codec="utf-8")))
def test_decoding_gives_back_any_text(text: str) -> None:
    assert decoded(TOKENIZER.encode(text)) == text.encode()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The loan costs", ["The", " loan"]),
        ("Rent, and", ["Rent", ",", " and"]),
        (" €900 a month.", [" €", "9", "0", "0", " a", " month", "."]),
    ],
)
def test_a_word_takes_the_space_before_it_along(text: str, tokens: list[str]) -> None:
    found = [TOKENIZER.decode(token) for token in TOKENIZER.encode(text)]
    assert found[: len(tokens)] == [token.encode() for token in tokens]


def test_what_it_does_not_know_costs_a_token_a_byte() -> None:
    assert len(TOKENIZER.encode("Ω")) == 2
    assert len(TOKENIZER.encode(" xylophone")) == len(" xylophone")
    assert len(TOKENIZER.encode(" mortgage")) == 1


def test_half_a_pair_of_surrogates_is_no_character() -> None:
    assert decoded(TOKENIZER.encode("a\ud800b")) == b"a?b"


@given(st.text())
def test_tokens_are_numbers_below_the_size(text: str) -> None:
    assert all(END < token < TOKENIZER.size for token in TOKENIZER.encode(text))


def test_every_word_of_the_corpus_is_known() -> None:
    words = {word.encode() for word in TOKENIZER.words}
    for passage in load_corpus():
        assert set(map(TOKENIZER.decode, TOKENIZER.encode(passage))) <= words


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts() -> None:
    corpus = load_corpus()
    assert Tokenizer.train(corpus).words == Tokenizer.train(corpus[::-1]).words
