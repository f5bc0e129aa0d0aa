"""A question and its answers, as all APIs of the text model have them in common."""

import codecs
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from demo_service.named import name_in_log
from demo_service.text.model import Sampling, TextModel
from demo_service.text.tools import Call, Tool, choose_call

__all__ = ["Answer", "Clerk", "Finish", "Message", "Question"]

Finish = Literal["end", "limit", "stop", "call"]
"""Why an answer ended: it was complete, reached the limit of tokens or one of the texts
that stop it, or asks for a call."""


class Message(NamedTuple):
    """Something that was said."""

    role: str
    """``user``, ``assistant``, ``tool``, or ``system`` for whoever runs the service."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be answered, and how."""

    messages: Sequence[Message]
    """What was said so far."""
    sampling: Sampling
    max_tokens: int
    """More than 0."""
    stops: Sequence[str] = ()
    """Texts before which an answer stops; none is empty."""
    tools: Sequence[Tool] = ()
    must_call: bool = False
    """Whether the answer has to ask for a call."""

    @property
    def prompt(self) -> str:
        """All that the model is given, as one text."""
        tools = [f"{tool.name} {json.dumps(tool.parameters)}" for tool in self.tools]
        said = [f"{message.role}: {message.text}" for message in self.messages]
        return "\n".join([*tools, *said, ""])

    def call(self) -> Call | None:
        """Return the call that the answer has to ask for, if any."""
        last = self.messages[-1] if self.messages else Message("user", "")
        if not self.tools or (last.role != "user" and not self.must_call):
            return None
        asked = [message.text for message in self.messages if message.role == "user"]
        return choose_call(self.tools, asked[-1] if asked else "", must=self.must_call)


class Answer:
    """One answer, as it is written."""

    def __init__(self, model: TextModel, question: Question) -> None:
        """Begin an answer; nothing is written yet."""
        self._model = model
        self._question = question
        self.call = question.call()
        """What the answer asks to have called; None for an answer in words."""
        self.tokens = 0
        """How many were written."""
        self.finish: Finish = "call" if self.call else "end"
        """Valid once all is written."""
        self.stopped_by: str | None = None
        """Which of the texts stopped it."""

    def write(self) -> Iterator[str]:
        """Write the text, or the arguments of the call, piece by piece; once."""
        if self.call:
            yield from self._texts(self._model.tokenizer.encode(self.call.arguments))
        else:
            said = [message.text for message in self._question.messages]
            tokens = self._model.write(said, self._question.sampling)
            yield from self._until_stopped(self._texts(tokens))

    def _texts(self, tokens: Iterator[int] | Sequence[int]) -> Iterator[str]:
        # A character may have several tokens, of which each is one of its bytes.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            if self.tokens == self._question.max_tokens:
                self.finish = "limit"
                break
            self.tokens += 1
            yield decoder.decode(self._model.tokenizer.decode(token))
        yield decoder.decode(b"", final=True)

    def _until_stopped(self, texts: Iterator[str]) -> Iterator[str]:
        """Yield the text up to the first stop, and never a beginning of one."""
        held = ""
        for text in texts:
            held += text
            found = _first(self._question.stops, held)
            if found is not None:
                self.finish, self.stopped_by = "stop", found
                yield held[: held.index(found)]
                return
            safe = len(held) - _begun(self._question.stops, held)
            yield held[:safe]
            held = held[safe:]
        yield held


def _first(stops: Sequence[str], text: str) -> str | None:
    """Return the stop that stands first in a text."""
    return min((one for one in stops if one in text), key=text.index, default=None)


def _begun(stops: Sequence[str], text: str) -> int:
    """Return how many characters at the end of a text may begin a stop."""
    longest = max(map(len, stops), default=0)
    for count in range(min(longest - 1, len(text)), 0, -1):
        if any(stop.startswith(text[-count:]) for stop in stops):
            return count
    return 0


@dataclass(frozen=True, slots=True)
class Clerk:
    """Answers questions, with a clock and with random numbers."""

    model: TextModel
    now: Callable[[], float] = time.time
    token: Callable[[int], str] = secrets.token_hex
    """Returns so many random bytes as hex: for identifiers, and seeds not given."""

    def seed(self, asked: int | None) -> int:
        """Return the seed that was asked for, or a random one."""
        return int(self.token(4), 16) if asked is None else abs(asked)

    def identifier(self, prefix: str) -> str:
        """Return a new identifier."""
        return prefix + self.token(12)

    def count(self, question: Question) -> int:
        """Return how many tokens the model is given."""
        return len(self.model.tokenizer.encode(question.prompt))

    def begin(self, question: Question, answers: int = 1) -> list[Answer]:
        """Begin so many answers, having told the audit log which model it is."""
        name_in_log(self.model.name, self.model.version, self.model.digest)
        return [Answer(self.model, _drawn(question, n)) for n in range(answers)]


def _drawn(question: Question, number: int) -> Question:
    """Return the question with a seed of its own for each answer."""
    sampling = replace(question.sampling, seed=question.sampling.seed + number)
    return replace(question, sampling=sampling)
