"""The commands token create, token list and token revoke."""

import argparse
import time
from functools import partial
from typing import Any

from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.core.errors import MalformedError
from auditlog.core.record import format_id, format_time
from auditlog.log.token_scope import NEVER, Scope, make_scope, parse_expiry, parse_scope
from auditlog.log.tokens import create_token, list_tokens, revoke_token, token_id
from auditlog.storage import TokenRow

__all__ = ["create", "list_", "revoke"]

_COLUMNS = ("id", "role", "created", "expires", "scope", "label")


def create(options: argparse.Namespace, out: Output) -> int:
    """Make a token; this is the only time that it can be read."""
    now = time.time()
    expires = read_option("--expires", options.expires, partial(parse_expiry, now=now))
    scope = _scope(options)
    with open_chosen(options) as log:
        token = read_option(
            "--label",
            options.label,
            lambda label: create_token(
                log.store,
                options.role,
                label=label,
                now=now,
                expires=expires,
                scope=scope,
            ),
        )
    if out.machine:
        known = {"role": options.role, "label": options.label}
        known |= {"expires": _expiry(expires), "scope": _scope_json(scope)}
        out.document(known | {"id": token_id(token), "token": token})
        return 0
    out.lines([token])
    out.say("Keep it now: only its hash is stored. It goes into this header:")
    out.say("    Authorization: Bearer alt_…")
    if expires is None:
        out.warn("it never expires; revoke it when it is not needed any more")
    else:
        out.say(f"It is good until {_expiry(expires)}.")
    return 0


def _scope(options: argparse.Namespace) -> Scope:
    """Return what the token may see.

    Each option is read alone first, so that a mistake is told by its name.
    """
    for name, values in (
        ("--route", options.route),
        ("--decision", options.decision),
        ("--since", [options.since]),
        ("--until", [options.until]),
    ):
        for value in values:
            if value is not None:
                read_option(name, value, partial(_one, name))
    return read_option(
        "--until",
        options.until or "",
        lambda _: make_scope(
            options.route, options.decision, options.since, options.until
        ),
    )


def _one(name: str, text: str) -> Scope:
    match name:
        case "--route":
            return make_scope(routes=[text])
        case "--decision":
            return make_scope(decisions=[text])
        case "--since":
            return make_scope(since=text)
    return make_scope(until=text)


def list_(options: argparse.Namespace, out: Output) -> int:
    """List tokens by id; the tokens themselves are stored nowhere."""
    with open_chosen(options) as log:
        tokens = [_known(row) for row in list_tokens(log.store)]
    if out.machine:
        out.document({"tokens": tokens})
    else:
        shown = [token | {"scope": _scope_text(token["scope"])} for token in tokens]
        shown = [token | {"expires": token["expires"] or NEVER} for token in shown]
        out.table(_COLUMNS, [[token[name] for name in _COLUMNS] for token in shown])
    return 0


def _known(row: TokenRow) -> dict[str, Any]:
    try:
        scope = _scope_json(parse_scope(row.scope))
    except MalformedError:
        scope = {"unreadable": True}
    return {
        "id": token_id(row.hash),
        "role": row.role,
        "created": format_time(row.created * 1_000_000),
        "expires": _expiry(row.expires),
        "scope": scope,
        "label": row.label,
    }


def _expiry(expires: int | None) -> str | None:
    return None if expires is None else format_time(expires * 1_000_000)


def _scope_json(scope: Scope) -> dict[str, Any] | None:
    """Return what is narrowed, in the words of the options; None for nothing."""
    known: dict[str, Any] = {
        "routes": scope.routes and [*scope.routes],
        "decisions": scope.decisions and [*map(format_id, scope.decisions)],
        "since": None if scope.since is None else format_time(scope.since),
        "until": None if scope.until is None else format_time(scope.until),
    }
    given = {name: value for name, value in known.items() if value is not None}
    return given or None


def _scope_text(scope: dict[str, Any] | None) -> str:
    if scope is None:
        return "everything"
    if "unreadable" in scope:
        return "unreadable, so nothing"
    lists = [*scope.get("routes", ()), *scope.get("decisions", ())]
    times = [f"{name} {scope[name]}" for name in ("since", "until") if name in scope]
    return ", ".join([*lists, *times])


def revoke(options: argparse.Namespace, out: Output) -> int:
    """Remove a token; requests with it are refused from now on."""
    with open_chosen(options) as log:
        revoked = read_option("ID", options.token, partial(revoke_token, log.store))
    id_ = token_id(revoked.hash)
    if out.machine:
        out.document({"id": id_, "role": revoked.role, "label": revoked.label})
    else:
        out.say(f"token {id_} ({revoked.role}) is revoked")
    return 0
