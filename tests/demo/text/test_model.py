import hashlib
import json
from itertools import islice

import pytest

from demo_service.text.model import Sampling, TextModel, load_corpus, train_text_model

MODEL = train_text_model()
WHY = "Why was my application declined?"


def written(
    question: str, seed: int = 0, temperature: float = 1.0, top_p: float = 1.0
) -> str:
    sampling = Sampling(seed, temperature, top_p)
    tokens = islice(MODEL.write([question], sampling), 200)
    return b"".join(map(MODEL.tokenizer.decode, tokens)).decode(errors="replace")


def shuffled(passage: str) -> str:
    words = passage.split()
    return " ".join(words[::2] + words[1::2])


def test_sentences_that_it_never_saw_surprise_it_less_than_their_words_do() -> None:
    corpus = load_corpus()
    model = TextModel(corpus[::2])
    unseen = corpus[1::2]
    better = sum(model.surprise(one) < model.surprise(shuffled(one)) for one in unseen)
    assert better / len(unseen) > 0.95


def test_it_writes_sentences_that_stand_nowhere_in_the_corpus() -> None:
    answers = {written(WHY, seed) for seed in range(40)}
    assert len(answers) > 25
    assert sum(answer in load_corpus() for answer in answers) < len(answers) / 4


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (WHY, "declined"),
        ("What is a mortgage?", "mortgage"),
        ("Does it matter what rent I pay?", "ent"),
        ("How do I appeal?", "appeal"),
    ],
)
def test_answers_are_mostly_about_the_question(question: str, word: str) -> None:
    answers = [written(question, seed, temperature=0.5) for seed in range(20)]
    about = sum(word in answer for answer in answers)
    others = sum(word in written("hello", seed, 0.5) for seed in range(20))
    assert about >= 10
    assert about > others


def test_what_was_said_before_counts_less() -> None:
    def about_rent(*messages: str) -> int:
        answers = [
            b"".join(
                map(
                    MODEL.tokenizer.decode,
                    islice(MODEL.write(messages, Sampling(seed, 0.5)), 200),
                )
            )
            for seed in range(20)
        ]
        return sum(b"ent" in answer.split()[0] for answer in answers)

    rent, mortgage = "Does my rent count?", "What is a mortgage?"
    assert about_rent(mortgage, rent) > about_rent(rent, mortgage)


def test_the_same_seed_gives_the_same_answer() -> None:
    assert written(WHY, 7) == written(WHY, 7)
    assert written(WHY, 7) != written(WHY, 8)


def test_without_temperature_the_seed_does_not_matter() -> None:
    assert written(WHY, 1, temperature=0) == written(WHY, 2, temperature=0)
    assert written(WHY, 1, top_p=0) == written(WHY, 1, temperature=0)


def test_the_hotter_the_less_to_be_expected() -> None:
    def surprise(temperature: float) -> float:
        answers = [written(WHY, seed, temperature) for seed in range(10)]
        return sum(map(MODEL.surprise, answers))

    assert surprise(0.3) < surprise(1.0) < surprise(2.0)


def test_top_p_leaves_out_what_is_unlikely() -> None:
    def words(top_p: float) -> int:
        return len({written(WHY, seed, 1.0, top_p) for seed in range(20)})

    assert words(0.3) < words(1.0)


def test_the_digest_is_that_of_all_that_was_learned() -> None:
    artifact = MODEL.artifact()
    assert MODEL.digest == f"sha256:{hashlib.sha256(artifact).hexdigest()}"
    assert len(json.loads(artifact)["passages"]) == len(load_corpus())


def test_training_again_gives_the_same_model_and_other_texts_another() -> None:
    assert TextModel(load_corpus()).digest == MODEL.digest
    assert TextModel(load_corpus()[1:]).digest != MODEL.digest
