"""Whom a decision is about, where the handler did not say: callable, then route.

A callable and what stands in path, query and headers is asked when the answer ends;
bodies are looked into later, off the event loop.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from auditlog.capture.places import RoutePlaces
from auditlog.capture.subjects import PERSON, Sought, Subject, SubjectFinder
from auditlog.config import Config
from auditlog.core.errors import ConfigurationError
from auditlog.web.asgi import Scope

__all__ = ["SubjectSource", "SubjectSources", "subject_sources"]

SubjectSource = Callable[[Scope], "str | Subject | None"]
"""Names whom a request that ends is about: identifier of a person, or a `Subject`."""

Say = Callable[[str, Exception], None]


class _Looked(NamedTuple):
    sought: Sought
    finder: SubjectFinder | None = None
    """Is to look into the bodies; None where that is not needed."""


class SubjectSources:
    """The sources of one middleware, in their order.

    Where one fails there is no subject, and no further source is asked: content sealed
    under the wrong person's key is worse than under none.

    Args:
        source: the callable, if there is one.
        places: by route.
        say: logs what failed, and how.
    """

    def __init__(
        self, source: SubjectSource | None, places: RoutePlaces, say: Say
    ) -> None:
        self._source = source
        self._places = places
        self._say = say

    def look(self, scope: Scope, route: str | None) -> _Looked:
        """Return whom a request that ends is about, or who is to look; never raises.

        Args:
            scope: of the request, as it is now.
            route: template, or None without a router: then the path is looked at.
        """
        if self._source is not None:
            sought = self._called(self._source, scope)
            if sought.subject is not None or sought.fault is not None:
                return _Looked(sought)
        place = self._places.of(route or scope["path"])
        if place is None:
            return _Looked(Sought())
        if place.in_body:
            return _Looked(Sought(), place)
        return _Looked(place.look(scope, route))

    def _called(self, source: SubjectSource, scope: Scope) -> Sought:
        try:
            named = source(scope)
            return Sought(None if named is None else _subject(named))
        except Exception as error:  # noqa: BLE001 - a foreign callable
            self._say("the subject callable failed", error)
            return Sought(fault=f"subject callable: {type(error).__name__}")


def subject_sources(
    source: SubjectSource | None, config: Config, say: Say
) -> SubjectSources | None:
    """Return the sources of one middleware; None if there are none.

    Args:
        source: the callable, if there is one.
        config: the other sources.
        say: logs what failed, and how.

    Raises:
        ConfigurationError: a source is not as described.
    """
    if source is not None:
        _check(source)
    places = RoutePlaces(config.route_subjects)
    return SubjectSources(source, places, say) if source or places else None


def _check(source: object) -> None:
    if not callable(source) or inspect.iscoroutinefunction(source):
        raise ConfigurationError(
            "option 'subject' takes a plain function of the scope, got "
            f"{type(source).__name__}"
        )


def _subject(named: object) -> Subject:
    if isinstance(named, Subject):
        return named
    if isinstance(named, str):
        return Subject(PERSON, named)
    raise ConfigurationError(
        "expected a subject callable to return an identifier, a Subject or None, got "
        f"{type(named).__name__}"
    )
