"""Telling others: a webhook, and metrics in a file.

What a webhook gets is one JSON object for each new finding, at least once::

    {"schema": "auditlog.alert.v1", "origin": "…", "kind": "fork", "exit": 10,
     "subject": "…", "text": "…", "file": "fork-….json", "time": "…Z"}

`text` alone is what chat services show. The address of a webhook often is a secret: it
never stands in a message, a file or a metric.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.anchors.http import Endpoint, parse_endpoint, post
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.record import format_time
from auditlog.monitor.findings import CODES, Finding
from auditlog.storage.files import write_durably

__all__ = ["Gauge", "Webhook", "alert", "write_metrics"]

SCHEMA = "auditlog.alert.v1"

_TIMEOUT = 10.0
_PATIENCE = 30.0
_MICROSECONDS = 1_000_000
_METRICS_MODE = 0o644
"""Another user's exporter reads it."""


class Gauge(NamedTuple):
    """One value of a metric."""

    name: str
    """After ``auditlog_monitor_``."""
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def alert(origin: str, finding: Finding, now: float) -> dict[str, Any]:
    """Return a finding as a webhook gets it; `now` in seconds since the epoch."""
    fields: dict[str, Any] = {
        "exit": CODES[finding.kind],
        "kind": finding.kind,
        "origin": origin,
        "schema": SCHEMA,
        "subject": finding.subject,
        "text": f"{origin}: {finding.text}",
        "time": format_time(int(now * _MICROSECONDS)),
    }
    return fields if finding.file is None else fields | {"file": finding.file}


class Webhook:
    """Where alerts are posted to."""

    def __init__(
        self,
        url: str,
        timeout: float = _TIMEOUT,
        patience: float = _PATIENCE,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the address.

        Args:
            url: http or https.
            timeout: seconds for one alert.
            patience: seconds after which no other one is begun in the same round.
            stopped: whether the process is to end: then, too.

        Raises:
            ConfigurationError: it is none; the message does not show it.
        """
        try:
            self._endpoint: Endpoint = parse_endpoint(url)._replace(url="the webhook")
        except ConfigurationError:
            raise ConfigurationError(
                "expected an http or https URL without user or query as webhook"
            ) from None
        self._timeout = timeout
        self._patience = patience
        self._stopped = stopped

    def tell(self, alerts: Sequence[Mapping[str, Any]]) -> int:
        """Post alerts in their order; return how many were taken.

        The first one that is not taken ends it: the next round tries again. So does
        one that takes each of many alerts slowly: nothing keeps the log unwatched.
        """
        end = time.monotonic() + self._patience
        for count, one in enumerate(alerts):
            if self._stopped() or time.monotonic() > end:
                return count
            try:
                self._post(one)
            except AuditLogError:
                return count
        return len(alerts)

    def _post(self, one: Mapping[str, Any]) -> None:
        body = json.dumps(one).encode()
        deadline = time.monotonic() + self._timeout
        # The path of the endpoint is the whole address: nothing is added to it.
        response = post(
            self._endpoint, "", body, deadline, content_type="application/json"
        )
        if not 200 <= response.status < 300:
            raise MalformedError(f"the webhook answers {response.status}")


def write_metrics(path: Path, gauges: Iterable[Gauge]) -> None:
    """Replace a file by metrics in the text format of Prometheus.

    Raises:
        StorageError: it cannot be written.
    """
    lines: list[str] = []
    typed: set[str] = set()
    for gauge in gauges:
        name = f"auditlog_monitor_{gauge.name}"
        if name not in typed:
            lines.append(f"# TYPE {name} gauge")
            typed.add(name)
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in gauge.labels)
        lines.append(f"{name}{{{labels}}} {gauge.value:.17g}")
    write_durably(path, "".join(f"{line}\n" for line in lines).encode(), _METRICS_MODE)


def _escaped(value: str) -> str:
    plain = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return plain.encode("utf-8", "replace").decode()
