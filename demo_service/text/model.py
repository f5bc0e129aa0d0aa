"""A small language model of letters about credit, trained at start.

It is an n-gram model: what comes next depends on the two tokens before, as often as
they stood together in ``corpus.txt``. It answers because a passage of the corpus counts
the more, the more it resembles what was asked (TF-IDF, cosine). So it writes sentences
that nobody wrote beside others that stand in the corpus word for word, mostly to the
point, and now and then nonsense. Training takes some milliseconds, and two starts give
the same model.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_service.text.tokens import END, Tokenizer

__all__ = ["Sampling", "TextModel", "load_corpus", "stems", "train_text_model"]

_CONTEXT = 2
"""So many tokens before the next one are looked at."""
_LESS = 0.02
"""Weight of what one token less of context says, beside what all of it says."""
_UNLIKE = 0.0003
"""Weight of a passage that does not resemble the question at all."""
_FADING = 0.5
"""Weight of a message, beside the one after it."""
_START = -1
"""Stands before the first token."""
_STEM = 5
"""So many letters say what a word is about: "decline" is also "declined"."""

Floats = NDArray[np.float64]
Following = Mapping[tuple[int, ...], tuple[NDArray[Any], NDArray[Any]]]
"""By context: the tokens that followed it, and in which passage each did."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn from those that the model finds likely."""

    seed: int
    """0 or more; with the same seed, the same question has the same answer."""
    temperature: float = 1.0
    """0 takes the likeliest, always; the higher, the more surprising."""
    top_p: float = 1.0
    """Draws from the likeliest that have this probability together; 0 to 1."""


class TextModel:
    """A trained model, ready to write."""

    name = "credit-letters"
    """Its name, in the log and in the service's answers."""
    version = "1"

    def __init__(self, passages: Sequence[str]) -> None:
        """Learn from passages of text, which are all there is to know."""
        self.tokenizer = Tokenizer.train(passages)
        self._passages = [[*self.tokenizer.encode(text), END] for text in passages]
        self._following = _count(self._passages)
        self._topics = _Topics(passages)
        self.digest = f"sha256:{hashlib.sha256(self.artifact()).hexdigest()}"
        """Over `artifact`, so that whoever has it can check that it is what decided."""

    def artifact(self) -> bytes:
        """Return all that was learned, as JSON: what a registry would store."""
        learned = {
            "context": _CONTEXT,
            "passages": self._passages,
            "weights": {"fading": _FADING, "less": _LESS, "unlike": _UNLIKE},
            "words": self.tokenizer.words,
        }
        return json.dumps(learned, separators=(",", ":"), sort_keys=True).encode()

    def write(self, messages: Sequence[str], sampling: Sampling) -> Iterator[int]:
        """Write an answer, token by token, until the model finds that it is complete.

        Args:
            messages: what was said so far, the question last.
            sampling: how to draw.
        """
        weights = self._weigh(messages)
        draws = np.random.default_rng(sampling.seed)
        written: list[int] = []
        while True:
            chances = _sharpen(self._chances(written, weights), sampling)
            token = int(np.searchsorted(chances.cumsum(), draws.random(), "right"))
            # Rounding may leave the sum of all chances a hair below a draw.
            token = min(token, self.tokenizer.size - 1)
            if token == END:
                return
            written.append(token)
            yield token

    def surprise(self, text: str) -> float:
        """Return how little a text was to be expected, in bits a token."""
        tokens = [*self.tokenizer.encode(text), END]
        alike = np.ones(len(self._passages))
        chances = [
            self._chances(tokens[:place], alike)[token]
            for place, token in enumerate(tokens)
        ]
        return float(-np.log2(chances).mean())

    def _weigh(self, messages: Sequence[str]) -> Floats:
        """Return how much each passage counts in an answer."""
        likeness: Floats = np.zeros(len(self._passages))
        for message in messages:
            likeness = _FADING * likeness + self._topics.likeness(message)
        return _UNLIKE + likeness**3

    def _chances(self, written: Sequence[int], weights: Floats) -> Floats:
        """Return the probability of each token to be the next."""
        size = self.tokenizer.size
        chances: Floats = np.full(size, 1 / size)
        before = (_START, *written[-_CONTEXT:])[-_CONTEXT:]
        for length in range(len(before) + 1):
            context = before[len(before) - length :]
            if context not in self._following:
                break
            tokens, passages = self._following[context]
            seen = np.bincount(tokens, weights[passages], size)
            chances = (1 - _LESS) * seen / seen.sum() + _LESS * chances
        return chances


class _Topics:
    """What passages are about: their words, of which the rare ones count the most."""

    def __init__(self, passages: Sequence[str]) -> None:
        bags = [Counter(stems(passage)) for passage in passages]
        known = sorted({stem for bag in bags for stem in bag})
        self._place = {stem: place for place, stem in enumerate(known)}
        table = np.array([self._row(bag) for bag in bags])
        self._rarity = np.log((1 + len(bags)) / (1 + (table > 0).sum(axis=0)))
        self._directions = np.array([self._direction(row) for row in table])

    def likeness(self, text: str) -> Floats:
        """Return how much each passage resembles a text, 0 to 1."""
        direction = self._direction(self._row(Counter(stems(text))))
        alike: Floats = self._directions @ direction
        return alike

    def _row(self, bag: Mapping[str, int]) -> Floats:
        row: Floats = np.zeros(len(self._place))
        for stem, count in bag.items():
            if stem in self._place:
                row[self._place[stem]] = count
        return row

    def _direction(self, row: Floats) -> Floats:
        weighed: Floats = row * self._rarity
        length = float(np.linalg.norm(weighed))
        return weighed / length if length else weighed


def stems(text: str) -> list[str]:
    """Return what the words of a text begin with, in order, in lower case."""
    return [word[:_STEM] for word in re.findall(r"[a-z]+", text.lower())]


@cache
def load_corpus() -> tuple[str, ...]:
    """Return the passages to learn from, one a line of the file beside this one."""
    text = Path(__file__).with_name("corpus.txt").read_text("utf-8")
    return tuple(text.splitlines())


@cache
def train_text_model() -> TextModel:
    """Train on the whole corpus."""
    return TextModel(load_corpus())


def _count(passages: Sequence[Sequence[int]]) -> Following:
    found: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, passage in enumerate(passages):
        tokens = (_START, *passage)
        for place in range(1, len(tokens)):
            for length in range(min(_CONTEXT, place) + 1):
                context = tokens[place - length : place]
                found[context].append((tokens[place], number))
    tables = {context: np.array(pairs) for context, pairs in found.items()}
    return {context: (table[:, 0], table[:, 1]) for context, table in tables.items()}


def _sharpen(chances: Floats, sampling: Sampling) -> Floats:
    """Return what to draw from: as bold as the temperature, and no less likely."""
    if sampling.temperature == 0:
        only: Floats = np.zeros_like(chances)
        only[chances.argmax()] = 1
        return only
    powers = (chances / chances.max()) ** (1 / sampling.temperature)
    falling = np.argsort(-powers, kind="stable")
    before = powers[falling].cumsum() - powers[falling]
    powers[falling[before > sampling.top_p * powers.sum()]] = 0
    sharpened: Floats = powers / powers.sum()
    return sharpened
