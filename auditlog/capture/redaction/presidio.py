"""Microsoft Presidio as a redactor of texts; needs the extra ``presidio``.

::

    app.add_middleware(AuditMiddleware, redact=[PresidioRedactor(threshold=0.5)])

What it finds becomes ``[redacted]``. It looks at each text in windows, so that no text
is too long for it. What there is to know before it is relied on says
`auditlog/docs/redaction.md`: it is a guess, it is slow, and it may ask the network.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from auditlog.capture.redaction.rules import REDACTED
from auditlog.core.errors import ConfigurationError

__all__ = ["Analyzer", "PresidioRedactor"]

_WINDOW = 50_000
"""Characters that it is given at once; a model of spaCy takes a million."""
_OVERLAP = 1_000
"""Characters that two windows share: nobody's name is as long."""
_LANGUAGE = "en"
_MODEL = "en_core_web_lg"


class _Found(Protocol):
    """A result of an analyzer."""

    start: int
    end: int


class Analyzer(Protocol):
    """What is needed of ``presidio_analyzer.AnalyzerEngine``."""

    def analyze(self, text: str, language: str, **options: Any) -> Sequence[_Found]:
        """Return what was found in a text."""

    def get_supported_entities(self, language: str | None = None) -> Sequence[str]:
        """Return the names of what can be found."""


class PresidioRedactor:
    """Takes out of texts what Presidio finds: an item for the option `redact`."""

    def __init__(
        self,
        *,
        language: str = _LANGUAGE,
        entities: Iterable[str] | None = None,
        analyzer: Analyzer | None = None,
        threshold: float | None = None,
    ) -> None:
        """Get an analyzer ready.

        Args:
            language: of the texts, such as ``en``.
            entities: what to look for, such as ``PERSON``; None looks for all that the
                analyzer knows.
            analyzer: yours; None takes Presidio's own, with the model
                ``en_core_web_lg``, which has to be installed.
            threshold: how sure it has to be, 0 to 1; None leaves that to the analyzer.

        Raises:
            ConfigurationError: Presidio or its model is not installed, or the analyzer
                does not know the language or an entity.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigurationError(
                f"PresidioRedactor: threshold takes 0 to 1, got {threshold}"
            )
        self._analyzer = _default(language) if analyzer is None else analyzer
        self._language = language
        self._threshold = threshold
        self._entities = _known(self._analyzer, language, entities)

    def __call__(self, text: str) -> str:
        """Return a text without what was found in it.

        Raises:
            Exception: whatever the analyzer raises; then nothing is stored.
        """
        if not text or text.isspace():
            return text
        kept: list[str] = []
        at = 0
        for start, end in sorted(self._spans(text)):
            if start >= at:
                kept += text[at:start], REDACTED
            at = max(at, end)
        return "".join((*kept, text[at:]))

    def _spans(self, text: str) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for begin in range(0, max(len(text) - _OVERLAP, 1), _WINDOW - _OVERLAP):
            results = self._analyzer.analyze(
                text[begin : begin + _WINDOW],
                self._language,
                entities=self._entities,
                score_threshold=self._threshold,
            )
            found.update((begin + one.start, begin + one.end) for one in results)
        return {(start, end) for start, end in found if start < end}


def _default(language: str) -> Analyzer:
    """Return Presidio's own analyzer, unless it would have to download its model."""
    if language != _LANGUAGE:
        raise ConfigurationError(
            f"PresidioRedactor: expected an analyzer for the language {language!r}: "
            f"Presidio's own knows {_LANGUAGE} only"
        )
    presidio = _load("presidio_analyzer")
    if not _load("spacy").util.is_package(_MODEL):
        raise ConfigurationError(
            f"PresidioRedactor: expected the model {_MODEL}, which is not installed: "
            f"python -m spacy download {_MODEL}, or give an analyzer of your own"
        )
    made: Analyzer = presidio.AnalyzerEngine()
    return made


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            "PresidioRedactor: expected presidio-analyzer to be installed: "
            "pip install 'decision-auditlog[presidio]'"
        ) from None


def _known(
    analyzer: Analyzer, language: str, entities: Iterable[str] | None
) -> list[str] | None:
    """Return the entities, all of which the analyzer knows: it ignores any other.

    Raises:
        ConfigurationError: it does not know one.
    """
    if isinstance(entities, str):
        raise ConfigurationError(
            f"PresidioRedactor: entities takes a sequence of names, got {entities!r}"
        )
    try:
        known = set(analyzer.get_supported_entities(language=language))
    except ValueError:  # which it raises where it has no recognizer
        known = set()
    if not known:
        raise ConfigurationError(
            f"PresidioRedactor: expected an analyzer for the language {language!r}, "
            "got one that finds nothing in it"
        )
    wanted = None if entities is None else list(entities)
    if wanted is not None and (not wanted or set(wanted) - known):
        unknown = ", ".join(sorted(set(wanted) - known)) or "none"
        raise ConfigurationError(
            f"PresidioRedactor: expected entities out of {', '.join(sorted(known))}; "
            f"got {unknown}"
        )
    return wanted
