"""Decisions beyond HTTP: jobs, queue workers, cron, notebooks.

::

    with auditlog.decision("nightly-scoring", input=row, model="credit@3") as decision:
        decision.set_output(model.predict(row))      # all of `Decision` works as well

    id_ = auditlog.record("nightly-scoring", input=row, output=score, model="credit@3")

    auditlog.amend(id_, "override", by="j.doe", reason="income checked", label="paid")

A decision is as complete as one over HTTP: input and output stand for request and
response, and open member by member. The options are those of the middleware, by keyword
or as ``AUDITLOG_*``. The log is opened on first use, in each process for itself, and is
closed when the interpreter ends; a process that ends otherwise is admitted by the next
start.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Unpack, get_args

from auditlog.capture.redaction.configured import Redactor, choke_point_beyond_http
from auditlog.capture.subjects import Subject
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import format_id
from auditlog.log.amendment import AmendmentKind, amendment
from auditlog.log.block import DecisionBlock
from auditlog.log.decision import NIL, Decision
from auditlog.log.ending import stop_at_exit
from auditlog.log.operation import About, Operation, check_operation
from auditlog.log.recording import config_for, recording_for
from auditlog.log.said import annotations
from auditlog.log.values import ABSENT
from auditlog.models.identity import Model
from auditlog.options import Options

__all__ = ["Outcome", "amend", "decision", "record"]

Outcome = Literal["completed", "error", "incomplete", "interrupted", "rejected"]
"""How work ended that is told afterwards: well; by an exception; half-way; by the end
of its process; before the model ran."""


def decision(
    operation: str,
    *,
    input: Any = ABSENT,  # noqa: A002 - what it is
    model: str | Model | None = None,
    subject: str | Subject | None = None,
    wait: bool = True,
    redact: Sequence[Redactor] = (),
    **about: Unpack[About],
) -> DecisionBlock:
    """Record the work of a ``with`` or ``async with`` block as one decision.

    The block is given an `Operation`, which `auditlog.current()` gives inside as well.
    Left by an exception, its outcome is ``error``, or ``interrupted`` if that was no
    `Exception`, such as KeyboardInterrupt or a cancelled task; it passes on. A process
    that is killed inside is admitted by the next start, as interrupted, under its id.

    Args:
        operation: what is done, 1 to 256 printable characters; from code, never from
            traffic: it stands in clear in the log.
        input: what the model is given: bytes, text, or JSON, where NumPy's scalars and
            arrays are welcome. It may be said later, by `Operation.set_input`.
        model: ``name``, ``name@version`` or an identity; else the option ``model``.
        subject: whom it is about: the identifier of a person, or an `auditlog.Subject`.
        wait: leave the block only when the decision is durable.
        redact: as for the middleware; besides what that of this process adds to the
            rules of the same log.
        about: what else is said, and options of the log by name.

    Raises:
        ConfigurationError: an argument is not as described.
    """
    options: dict[str, Any] = {**about}
    said = {name: options.pop(name, None) for name in _SAID}
    config = config_for(options)
    made = Operation(NIL)
    if input is not ABSENT:
        made.set_input(input, media_type=said["input_type"])
    _say(made, config.model if model is None else model, subject, said)
    return DecisionBlock(
        check_operation(operation),
        made,
        config,
        wait=wait,
        redaction=choke_point_beyond_http(config, redact),
    )


def record(
    operation: str,
    *,
    input: Any,  # noqa: A002 - what it is
    output: Any = ABSENT,
    outcome: Outcome = "completed",
    output_type: str | None = None,
    model: str | Model | None = None,
    subject: str | Subject | None = None,
    wait: bool = True,
    redact: Sequence[Redactor] = (),
    **about: Unpack[About],
) -> str:
    """Record work that is done already; return the id of the decision.

    Args:
        operation: as for `decision`, and so are model, subject, wait, redact and about.
        input: what the model was given.
        output: what it gave; left out where there is nothing.
        outcome: how the work ended.
        output_type: media type of the output, where it is bytes or text.
        model: which model decided.
        subject: whom it is about.
        wait: return only when the decision is durable.
        redact: what code takes out of texts and bodies before they are stored.
        about: what else is said, and options of the log by name.

    Returns:
        The id; all zeros where nothing is recorded, which happens only under
        ``on_failure="open"`` or with ``enabled=False``.

    Raises:
        ConfigurationError: an argument is not as described, or the log cannot be used.
        AuditLogError: under ``on_failure="closed"``, it could not be recorded.
    """
    if outcome not in get_args(Outcome):
        raise ConfigurationError(
            f"expected an outcome out of {', '.join(get_args(Outcome))}"
        )
    block = decision(
        operation,
        input=input,
        model=model,
        subject=subject,
        wait=wait,
        redact=redact,
        **about,
    )
    if output is not ABSENT:
        block.operation.set_output(output, media_type=output_type)
    block.begin()
    block.end(outcome)
    return block.operation.id


def amend(
    decision: str,
    kind: AmendmentKind,
    *,
    by: str | None = None,
    reason: str | None = None,
    label: str | int | bool | None = None,
    score: float | Decimal | None = None,
    attributes: Mapping[str, Any] | None = None,
    redact: Sequence[Redactor] = (),
    **options: Unpack[Options],
) -> str:
    """Say later what became known of a decision; return the id of the new entry.

    The decision stays as it is: an amendment is an entry of its own that names it, from
    any process that can write to the log, as often as there is something to say. Who,
    why and what are sealed in leaves of their own, so that one can be shown without the
    others. It is durable when this returns.

    Args:
        decision: the decision's id.
        kind: ``appeal``, ``correction``, ``explanation``, ``human_review``,
            ``incident``, ``outcome`` (what turned out to be true), ``override`` or
            ``withdrawal``; it stands in clear.
        by: who says so, or who contests, 1 to 1,024 characters.
        reason: why, 1 to 16,384 characters.
        label: what holds now, or what turned out to be true; as `Decision.set_result`.
        score: likewise.
        attributes: anything else, as `Decision.annotate`.
        redact: as for `decision`.
        options: of the log, by name.

    Raises:
        MalformedError: `decision` is no id.
        NotFoundError: the log has no such decision.
        ConfigurationError: another argument is not as described, or the log cannot be
            used.
        StorageError: it is unknown whether it was recorded, whatever `on_failure` says:
            nobody's answer waits for it.
    """
    config = config_for(options)
    nothing = Decision(NIL).id
    if not config.enabled and decision == nothing:
        # It is the id of all that is decided meanwhile.
        return nothing
    said = amendment(
        decision,
        kind,
        by=by,
        reason=reason,
        label=label,
        score=score,
        attributes=attributes,
    )._replace(redaction=choke_point_beyond_http(config, redact))
    if not config.enabled:
        return nothing
    runtime = recording_for(config)
    stop_at_exit()
    return format_id(runtime.append(said))


_SAID = ("input_type", "user", "session", "annotations", "caused_by")


def _say(
    made: Operation,
    model: str | Model | None,
    subject: str | Subject | None,
    said: dict[str, Any],
) -> None:
    if model is not None:
        made.set_model(_named(model))
    if isinstance(subject, Subject):
        made.set_subject(subject.identifier, kind=subject.kind)
    elif subject is not None:
        made.set_subject(subject)
    if said["user"] is not None:
        made.set_user(said["user"])
    if said["session"] is not None:
        made.set_session(said["session"])
    if said["annotations"] is not None:
        made.annotate(**annotations(said["annotations"]))
    if said["caused_by"] is not None:
        made.caused_by(said["caused_by"])


def _named(model: object) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, str):
        return Model.parse(model)
    raise ConfigurationError(
        f"expected a model as text or a Model, got {type(model).__name__}"
    )
