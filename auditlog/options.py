"""The options of the middleware as type checkers and editors see them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """The fields of `auditlog.config.Config`, which explains them, by keyword.

    None counts as not given. `model` is a parameter of its own.
    """

    enabled: bool | None
    dir: Path | str | None
    origin: str | None
    route_models: Mapping[str, str] | None
    model_header: str | None
    models: Sequence[str] | None
    protocol: str | None
    route_protocols: Mapping[str, str] | None
    route_subjects: Mapping[str, str] | None
    record_keys: Sequence[str] | None
    redact_keys: Sequence[str] | None
    redact_fields: Sequence[str] | None
    redact_patterns: Sequence[str] | None
    redact_unreadable: Literal["drop", "keep"] | None
    include: Sequence[str] | None
    exclude: Sequence[str] | None
    methods: Sequence[str] | None
    websocket: Literal["session", "message", "off"] | None
    durability: Literal["sync", "spool"] | None
    on_failure: Literal["open", "closed"] | None
    depth: int | None
    max_stored_bytes: int | None
    max_spilled_bytes: int | None
    keep_rejected: bool | None
    header: str | None
    policy: Path | str | None
    checkpoint_interval: float | None
    checkpoint_decisions: int | None
    anchor_interval: float | None
    metrics: bool | None
