"""Which tool a question asks for, and with what: a rule that reads the question.

A tool is asked for where the question holds at least half of the words of its name, and
a value for each parameter that the tool requires. A value is looked for by type, near
the words of the parameter's name; what the question does not say is left out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from demo_service.text.model import stems

__all__ = ["Call", "Tool", "choose_call"]

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_LONGEST = 30
"""Characters of a number; one of hundreds of digits is infinite as a float."""
_LINKING = r"(?:\s+(?:is|of|for|number|called|named))*[\s:=]+"
_VALUE = r"[\"“']?([\w][\w.@/-]*\w|\w)"


class Tool(NamedTuple):
    """A function of the caller's that an answer may ask to have called."""

    name: str
    parameters: Mapping[str, Any]
    """JSON Schema of an object."""

    @property
    def required(self) -> frozenset[str]:
        """Names of the parameters that must have a value."""
        names = self.parameters.get("required")
        names = names if isinstance(names, list) else []
        return frozenset(name for name in names if isinstance(name, str))


class Call(NamedTuple):
    """A call that an answer asks for."""

    name: str
    arguments: str
    """A JSON object."""


def choose_call(tools: Sequence[Tool], question: str, *, must: bool) -> Call | None:
    """Return the call that a question asks for, if it asks for any.

    Args:
        tools: to choose from.
        question: what the user said last.
        must: call the tool that fits best, however badly it does.
    """
    asked = stems(question)
    shares = [_share(stems(tool.name.replace("_", " ")), asked) for tool in tools]
    for share, tool in sorted(zip(shares, tools, strict=True), key=_falling):
        values = dict(_values(tool, question))
        if must or (share >= 0.5 and tool.required <= values.keys()):
            return Call(tool.name, json.dumps(values, ensure_ascii=False))
    return None


def _falling(pair: tuple[float, Tool]) -> float:
    return -pair[0]


def _share(words: Sequence[str], asked: Sequence[str]) -> float:
    return sum(word in asked for word in words) / len(words) if words else 0.0


def _values(tool: Tool, question: str) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that the question has a value for, and the values."""
    properties = tool.parameters.get("properties")
    for name, schema in (properties if isinstance(properties, dict) else {}).items():
        value = _value(name, schema if isinstance(schema, dict) else {}, question)
        if value is not None:
            yield name, value


def _value(name: str, schema: Mapping[str, Any], question: str) -> Any:
    if isinstance(schema.get("enum"), list):
        return next((v for v in schema["enum"] if _stands(str(v), question)), None)
    kind = schema.get("type")
    # Whoever may leave a value out writes ["number", "null"].
    kinds = kind if isinstance(kind, list) else [kind]
    if "number" in kinds or "integer" in kinds:
        return _number(name, question, whole="number" not in kinds)
    if "boolean" in kinds:
        return _stands(_spoken(name), question) or None
    pattern = f"{re.escape(_spoken(name))}{_LINKING}{_VALUE}"
    found = re.search(pattern, question, re.IGNORECASE)
    return found and found[1]


def _number(name: str, question: str, *, whole: bool) -> float | None:
    """Return the number nearest to where the question speaks of `name`."""
    about = re.search(rf"\b{re.escape(_spoken(name))}\b", question, re.IGNORECASE)
    found = _NUMBER.finditer(question)
    numbers = [one for one in found if len(one[0]) <= _LONGEST]
    if about is None or not numbers:
        return None
    middle = about.start() + len(about[0]) // 2
    nearest = min(numbers, key=lambda one: abs(one.start() - middle))
    value = float(nearest[0].replace(",", ""))
    return int(value) if whole or value.is_integer() else value


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _stands(words: str, question: str) -> bool:
    return re.search(rf"\b{re.escape(words)}\b", question, re.IGNORECASE) is not None
