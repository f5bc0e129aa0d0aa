"""Places of JSON that are never stored: pointers with a wildcard, as a tree of steps.

A rule is an RFC 6901 pointer, one side before it or none: ``request/applicant/name``,
``/messages/*/content``. ``*`` stands for any one step, a member or an item.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from auditlog.capture.redaction.redaction import Side
from auditlog.core.errors import ConfigurationError

__all__ = ["Place", "Places", "may_apply", "parse_places", "step", "within"]

_RULE = re.compile(r"(request|response)?((?:/[^/]*)+)")
_ESCAPES = re.compile(r"~(?![01])")
_MAX_STEPS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A step of one rule or more."""

    steps: dict[str, "Place"] = field(default_factory=dict)
    """What may come next, by name or index; ``*`` is any."""
    ends: list[bool] = field(default_factory=list)
    """Not empty where a rule ends: the value here goes."""


Places = tuple[Place, ...]
"""Where all rules are that can still apply; several, as a wildcard is a step too."""


def parse_places(rules: Iterable[str]) -> dict[Side, Places]:
    """Return where the rules begin on each side; nothing for a side without one.

    Raises:
        ConfigurationError: a rule is no pointer.
    """
    roots: dict[Side, Place] = {"request": Place(), "response": Place()}
    for rule in rules:
        side, steps = _parse(rule)
        for name, root in roots.items():
            if side in (None, name):
                _add(root, steps)
    return {side: (root,) if root.steps else () for side, root in roots.items()}


def _parse(rule: str) -> tuple[str | None, list[str]]:
    found = _RULE.fullmatch(rule)
    if found is None:
        raise ConfigurationError(
            "redact_fields: expected request/…, response/… or /…, such as "
            f"request/applicant/name, got {rule!r}"
        )
    if _ESCAPES.search(rule):
        raise ConfigurationError(
            f"redact_fields: expected ~0 for ~ and ~1 for / (RFC 6901), got {rule!r}"
        )
    steps = found[2][1:].split("/")
    if len(steps) > _MAX_STEPS:
        raise ConfigurationError(
            f"redact_fields: expected at most {_MAX_STEPS} steps, got {len(steps)} "
            f"in {rule[:80]!r}…"
        )
    return found[1], [step.replace("~1", "/").replace("~0", "~") for step in steps]


def _add(place: Place, steps: list[str]) -> None:
    for name in steps:
        place = place.steps.setdefault(name, Place())
    place.ends.append(True)


def step(places: Places, name: str) -> Places:
    """Return where the rules are after one more step, `name` or an index."""
    if len(places) == 1:
        # As almost always, and this is asked of each member.
        steps = places[0].steps
        found, wild = steps.get(name), steps.get("*")
        if wild is None:
            return () if found is None else (found,)
    return tuple(
        next_
        for place in places
        for key in (name, "*")
        if (next_ := place.steps.get(key)) is not None
    )


def within(places: Places) -> Places:
    """Return places whose only step, item 0, leads to these."""
    return tuple(Place({"0": place}) for place in places)


def may_apply(places: Places, text: str) -> bool:
    """Return whether a text of JSON without escapes may have a place that goes."""
    return any(
        (name == "*" or name.isdecimal() or f'"{name}"' in text)
        and (bool(place.ends) or may_apply((place,), text))
        for parent in places
        for name, place in parent.steps.items()
    )
