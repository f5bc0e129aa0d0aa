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

from typing import Any, Literal, Unpack, get_args

from auditlog.config import load_config
from auditlog.core.errors import ConfigurationError
from auditlog.log.block import DecisionBlock
from auditlog.log.decision import NIL
from auditlog.log.operation import About, Operation, check_operation
from auditlog.log.values import ABSENT
from auditlog.models.identity import Model

__all__ = ["Outcome", "decision", "record"]

Outcome = Literal["completed", "error", "incomplete", "interrupted", "rejected"]
"""How work ended that is told afterwards: well; by an exception; half-way; by the end
of its process; before the model ran."""


def decision(
    operation: str,
    *,
    input: Any = ABSENT,  # noqa: A002 - what it is
    model: str | Model | None = None,
    subject: str | None = None,
    wait: bool = True,
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
        subject: whom it is about, as `Decision.set_subject`.
        wait: leave the block only when the decision is durable.
        about: what else is said, and options of the log by name.

    Raises:
        ConfigurationError: an argument is not as described.
    """
    options: dict[str, Any] = {**about}
    said = {name: options.pop(name, None) for name in _SAID}
    config = load_config({**options, "model": None})
    made = Operation(NIL)
    if input is not ABSENT:
        made.set_input(input, media_type=said["input_type"])
    _say(made, model or config.model, subject, said)
    return DecisionBlock(check_operation(operation), made, config, wait=wait)


def record(
    operation: str,
    *,
    input: Any,  # noqa: A002 - what it is
    output: Any = ABSENT,
    outcome: Outcome = "completed",
    output_type: str | None = None,
    model: str | Model | None = None,
    subject: str | None = None,
    wait: bool = True,
    **about: Unpack[About],
) -> str:
    """Record work that is done already; return the id of the decision.

    Args:
        operation: as for `decision`, and so are model, subject, wait and about.
        input: what the model was given.
        output: what it gave; left out where there is nothing.
        outcome: how the work ended.
        output_type: media type of the output, where it is bytes or text.
        model: which model decided.
        subject: whom it is about.
        wait: return only when the decision is durable.
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
        operation, input=input, model=model, subject=subject, wait=wait, **about
    )
    if output is not ABSENT:
        block.operation.set_output(output, media_type=output_type)
    block.begin()
    block.end(outcome)
    return block.operation.id


_SAID = ("input_type", "user", "session", "annotations", "caused_by")


def _say(
    made: Operation,
    model: str | Model | None,
    subject: str | None,
    said: dict[str, Any],
) -> None:
    if model is not None:
        made.use_model(model if isinstance(model, Model) else Model.parse(model))
    if subject is not None:
        made.set_subject(subject)
    if said["user"] is not None:
        made.set_user(said["user"])
    if said["session"] is not None:
        made.set_session(said["session"])
    if said["annotations"] is not None:
        made.annotate(**said["annotations"])
    if said["caused_by"] is not None:
        made.caused_by(said["caused_by"])
