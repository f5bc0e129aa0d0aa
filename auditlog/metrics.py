"""Prometheus metrics: an extra, off until ``metrics=True`` or ``AUDITLOG_METRICS=1``.

``prometheus-client`` is imported only then. What is counted goes into its default
registry, for the ``/metrics`` that the service has anyway; nothing of it runs on the
event loop. Labels are route templates, model names, outcomes and reasons as they stand
in clear in entries, never an id or a person.

=============================================  =========================================
``auditlog_decisions_total``                   route, model, outcome; once durable
``auditlog_decisions_dropped_total``           reason; named by a gap instead
``auditlog_sequence_gaps_total``               gap entries
``auditlog_orphans_recovered_total``           admitted as interrupted by recovery
``auditlog_capture_errors_total``              stage: describe, store
``auditlog_inflight_decisions``                opened and not durable yet
``auditlog_anchor_attempts_total``             anchor, state: pending, final, failed
``auditlog_integrate_seconds``                 one round of the sequencer, a histogram
``auditlog_tree_size``                         entries under the newest checkpoint
``auditlog_checkpoint_timestamp_seconds``      of the newest entry under it
``auditlog_merge_delay_seconds``               age of the oldest entry that is not
``auditlog_unanchored_leaves``                 entries under no cosigned checkpoint
``auditlog_unwitnessed_age_seconds``           age of the oldest of them
``auditlog_witness_cosignature_timestamp_…``   witness; …seconds, newest cosignature
``auditlog_anchor_lag_entries``                anchor; beyond its last final attestation
``auditlog_anchor_lag_seconds``                anchor; age of the oldest of them
``auditlog_build_info``                        version; always 1
=============================================  =========================================

Those from the tree's size on describe the log, not a process: the process that leads
the log sets them, and `auditlog serve` gives them at ``/metrics``.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from typing import Any, NamedTuple, ParamSpec

from auditlog import __version__
from auditlog.core.errors import ConfigurationError

__all__ = ["SILENT", "AnchorLag", "LogState", "Observer", "exposition", "observer_for"]

_log = logging.getLogger("auditlog")

_MAX_LABELS = 1000
"""Label sets of decisions; whatever comes after shares one."""
_OTHER = "other"
_NONE = ""
_PER_LOG = {"multiprocess_mode": "livemostrecent"}
_MISSING = (
    "metrics need prometheus-client, which is not installed: "
    "pip install 'decision-auditlog[metrics]'"
)


class AnchorLag(NamedTuple):
    """How far a log is beyond what an anchor has attested."""

    entries: int
    seconds: float
    """Age of the oldest of them; 0 if there is none."""


class LogState(NamedTuple):
    """What a log looks like at one moment, for those who watch it."""

    tree_size: int
    checkpoint_time: float | None
    """Seconds since the epoch; None before the first checkpoint."""
    merge_delay: float
    """Seconds; 0 if every entry is under a checkpoint."""
    unwitnessed: int
    unwitnessed_age: float
    """Seconds; 0 if every entry is under a cosigned checkpoint."""
    cosignatures: Mapping[str, int]
    """Time of the newest cosignature by witness, seconds since the epoch."""
    anchors: Mapping[str, AnchorLag] = {}
    """By the operator's name for the anchor."""


class Observer:
    """Is told what happens; this one does nothing with it. No method raises."""

    def decisions(self, labels: Iterable[tuple[str | None, ...]]) -> None:
        """Count durable decisions by route, model and outcome."""

    def gap(self, reason: str, numbers: int) -> None:
        """Count a gap entry, and the numbers that it names."""

    def recovered(self, interrupted: int) -> None:
        """Count decisions of a dead process that were admitted as interrupted."""

    def error(self, stage: str) -> None:
        """Count a fault of ours."""

    def in_flight(self, count: int) -> None:
        """Take how many numbers are open."""

    def integrated(self, seconds: float) -> None:
        """Take how long a round of the sequencer took."""

    def attested(self, anchor: str, state: str) -> None:
        """Count an attempt of an anchor: pending, final or failed."""

    def log_state(self, state: LogState) -> None:
        """Take what the log looks like."""

    @property
    def watches(self) -> bool:
        """Whether it is worth while to look at the log for `log_state`."""
        return False


SILENT = Observer()


def observer_for(*, enabled: bool) -> Observer:
    """Return the observer that the option `metrics` asks for.

    Raises:
        ConfigurationError: it is wanted, and prometheus-client is not installed.
    """
    return _prometheus() if enabled else SILENT


def exposition(state: LogState) -> tuple[bytes, str]:
    """Return what a log looks like in the text format, and its media type.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    client = _client()
    registry = client.CollectorRegistry()
    _LogGauges(client, registry).set(state)
    _build_info(client, registry)
    return client.generate_latest(registry), client.CONTENT_TYPE_LATEST


_P = ParamSpec("_P")


def _never_raises(method: Callable[_P, None]) -> Callable[_P, None]:
    """Keep a fault of the client, such as a full disk, from the thread that counts."""

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - foreign, and it loses no decision
            kind = type(error).__name__
            _log.debug("auditlog: a metric was not counted: %s: %s", kind, error)

    return call


class _Prometheus(Observer):
    """Counts in prometheus-client's default registry."""

    def __init__(self, client: Any) -> None:
        self._decisions = client.Counter(
            "auditlog_decisions_total",
            "Decisions that are durable in the log.",
            ["route", "model", "outcome"],
        )
        self._dropped = client.Counter(
            "auditlog_decisions_dropped_total",
            "Decisions of which the log has the number only, in a gap.",
            ["reason"],
        )
        self._gaps = client.Counter("auditlog_sequence_gaps_total", "Gap entries.")
        self._orphans = client.Counter(
            "auditlog_orphans_recovered_total",
            "Decisions of dead processes, admitted as interrupted.",
        )
        self._errors = client.Counter(
            "auditlog_capture_errors_total", "Faults of ours.", ["stage"]
        )
        self._in_flight = client.Gauge(
            "auditlog_inflight_decisions",
            "Decisions that are opened and not durable yet.",
            multiprocess_mode="livesum",
        )
        self._integrate = client.Histogram(
            "auditlog_integrate_seconds", "One round of the sequencer."
        )
        self._attempts = client.Counter(
            "auditlog_anchor_attempts_total",
            "Attempts to have a checkpoint attested.",
            ["anchor", "state"],
        )
        self._gauges = _LogGauges(client, client.REGISTRY)
        _build_info(client, client.REGISTRY)
        self._children: dict[tuple[str | None, ...], Any] = {}

    @_never_raises
    def decisions(self, labels: Iterable[tuple[str | None, ...]]) -> None:
        for names in labels:
            child = self._children.get(names)
            if child is None:
                child = self._child(names)
            child.inc()

    def _child(self, names: tuple[str | None, ...]) -> Any:
        if len(self._children) >= _MAX_LABELS:
            return self._decisions.labels(*(_OTHER for _ in names))
        child = self._decisions.labels(*(name or _NONE for name in names))
        self._children[names] = child
        return child

    @_never_raises
    def gap(self, reason: str, numbers: int) -> None:
        self._gaps.inc()
        self._dropped.labels(reason).inc(numbers)

    @_never_raises
    def recovered(self, interrupted: int) -> None:
        self._orphans.inc(interrupted)

    @_never_raises
    def error(self, stage: str) -> None:
        self._errors.labels(stage).inc()

    @_never_raises
    def in_flight(self, count: int) -> None:
        self._in_flight.set(count)

    @_never_raises
    def integrated(self, seconds: float) -> None:
        self._integrate.observe(seconds)

    @_never_raises
    def attested(self, anchor: str, state: str) -> None:
        self._attempts.labels(anchor, state).inc()

    @_never_raises
    def log_state(self, state: LogState) -> None:
        self._gauges.set(state)

    @property
    def watches(self) -> bool:
        return True


class _LogGauges:
    """What describes the log as a whole."""

    def __init__(self, client: Any, registry: Any) -> None:
        def gauge(name: str, help_: str, *labels: str) -> Any:
            return client.Gauge(name, help_, labels, registry=registry, **_PER_LOG)

        self._size = gauge("auditlog_tree_size", "Entries under the newest checkpoint.")
        self._checkpoint = gauge(
            "auditlog_checkpoint_timestamp_seconds",
            "Time of the newest entry under the newest checkpoint.",
        )
        self._delay = gauge(
            "auditlog_merge_delay_seconds",
            "Age of the oldest entry under no checkpoint; 0 if there is none.",
        )
        self._unanchored = gauge(
            "auditlog_unanchored_leaves", "Entries under no cosigned checkpoint."
        )
        self._unwitnessed = gauge(
            "auditlog_unwitnessed_age_seconds",
            "Age of the oldest entry under no cosigned checkpoint; 0 if there is none.",
        )
        self._cosigned = gauge(
            "auditlog_witness_cosignature_timestamp_seconds",
            "Time of the newest cosignature of a witness.",
            "witness",
        )
        self._lag_entries = gauge(
            "auditlog_anchor_lag_entries",
            "Entries beyond the last final attestation of an anchor.",
            "anchor",
        )
        self._lag_seconds = gauge(
            "auditlog_anchor_lag_seconds",
            "Age of the oldest entry beyond it; 0 if there is none.",
            "anchor",
        )

    def set(self, state: LogState) -> None:
        self._size.set(state.tree_size)
        if state.checkpoint_time is not None:
            self._checkpoint.set(state.checkpoint_time)
        self._delay.set(state.merge_delay)
        self._unanchored.set(state.unwitnessed)
        self._unwitnessed.set(state.unwitnessed_age)
        for witness, time in state.cosignatures.items():
            self._cosigned.labels(witness).set(time)
        for anchor, lag in state.anchors.items():
            self._lag_entries.labels(anchor).set(lag.entries)
            self._lag_seconds.labels(anchor).set(lag.seconds)


def _build_info(client: Any, registry: Any) -> None:
    client.Gauge(
        "auditlog_build_info",
        "The version that runs.",
        ["version"],
        registry=registry,
        **_PER_LOG,
    ).labels(__version__).set(1)


@cache
def _prometheus() -> Observer:
    """Return the one observer of this process: names are registered once."""
    return _Prometheus(_client())


def _client() -> Any:
    try:
        import prometheus_client  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigurationError(_MISSING) from None
    return prometheus_client
