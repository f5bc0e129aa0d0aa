"""The grammar of the command line: verbs, options, and which function runs each."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, get_args

from auditlog import __version__
from auditlog.cli.output import Output, write_failure
from auditlog.log.amendment import AmendmentKind
from auditlog.log.tokens import ROLES

__all__ = ["Command", "parse"]

_USAGE = 2
_EPILOG = """\
Every verb takes --json. Exit status: 0 ok, 1 could not do or check it, 2 usage,
10 verification failed, 11 not found, 12 pending, 13 untrusted key or policy not met,
16 malformed, 130 interrupted. `auditlog VERB --help` shows a verb's options.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command line."""

    home: str
    """Module and function that run it, ``module:function``."""
    options: argparse.Namespace

    def run(self) -> int:
        """Import the function, call it, return the exit status."""
        module, _, name = self.home.partition(":")
        function = getattr(import_module(f"auditlog.cli.{module}"), name)
        status: int = function(self.options, Output(machine=self.options.json))
        return status


def parse(arguments: Sequence[str]) -> Command:
    """Read a command line.

    Raises:
        SystemExit: with status 2 if it is wrong, 0 after ``--help`` or ``--version``.
    """
    options = _parser("--json" in arguments).parse_args(arguments)
    return Command(options.home, options)


class _Parser(argparse.ArgumentParser):
    """A parser without abbreviations, which later verbs would make ambiguous."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        sys.stderr.write(f"auditlog: error: {message}\n")
        raise SystemExit(_USAGE)


class _MachineParser(_Parser):
    """A parser whose complaint is JSON too."""

    def error(self, message: str) -> NoReturn:
        write_failure(message, _USAGE)
        super().error(message)


class _Verbs:
    """A group of verbs, each a parser of its own with the common options."""

    def __init__(self, parser: _Parser, *, needs_dir: bool = False) -> None:
        self._common = _common(needs_dir=needs_dir)
        self._verbs = parser.add_subparsers(
            metavar="VERB", required=True, parser_class=type(parser)
        )

    def add(
        self, name: str, home: str, help_: str, common: _Parser | None = None
    ) -> argparse.ArgumentParser:
        """Add a verb that the function at `home` runs."""
        verb = self._verbs.add_parser(
            name, help=help_, description=help_, parents=[common or self._common]
        )
        verb.set_defaults(home=home)
        return verb

    def group(self, name: str, help_: str) -> _Parser:
        """Add a verb that only holds other verbs."""
        return self._verbs.add_parser(name, help=help_, description=help_)


def _common(*, needs_dir: bool, whose: str = "witness") -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        metavar="D",
        required=needs_dir,
        help=f"the {whose}'s directory"
        if needs_dir
        else "the log's directory (AUDITLOG_DIR; default ./audit)",
    )
    common.add_argument("--json", action="store_true", help="print one JSON document")
    common.add_argument(
        "--traceback", action="store_true", help="show where an error came from"
    )
    return common


def _parser(machine: bool) -> _Parser:
    parser = (_MachineParser if machine else _Parser)(
        prog="auditlog",
        description="Evidence for AI decisions, in a witnessed Merkle log.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--version", action="version", version=f"auditlog {__version__}"
    )
    verbs = _Verbs(parser)
    _add_operation(verbs)
    _add_reading(verbs)
    _add_amending(verbs)
    _add_erasing(verbs)
    _add_inspection(verbs)
    _add_monitor(verbs)
    for name, add in (
        ("key", _add_key),
        ("token", _add_token),
        ("anchor", _add_anchor),
        ("model", _add_model),
    ):
        group = verbs.group(name, _GROUPS[name])
        add(_Verbs(group))
    group = verbs.group("witness", _GROUPS["witness"])
    _add_witness(_Verbs(group, needs_dir=True))
    return parser


_GROUPS = {
    "anchor": "have checkpoints fixed in time by others (anchors.toml)",
    "key": "show the public keys of the log; keep those of the vault",
    "model": "say what a model's files are, as the log names them",
    "token": "make, list and revoke tokens for the reading interface",
    "witness": "run a witness, which cosigns the checkpoints of logs",
}


def _add_operation(verbs: _Verbs) -> None:
    init = verbs.add("init", "operating:init", "make a log and its keys")
    init.add_argument(
        "--origin",
        metavar="NAME",
        help="its name for ever, such as bank.example/credit (AUDITLOG_ORIGIN)",
    )
    serve = verbs.add("serve", "serving:serve", "answer look-ups over HTTP")
    serve.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    serve.add_argument("--port", type=_port, default=8642, help="default 8642; 0: any")
    checkpoint = verbs.add(
        "checkpoint", "operating:checkpoint", "sign what waits, print the newest"
    )
    checkpoint.add_argument(
        "--witness", action="store_true", help="also ask the witnesses of the policy"
    )
    check = verbs.add(
        "check",
        "checking:check",
        "read and hash everything again, account for numbers",
    )
    check.add_argument(
        "--max-gap",
        type=_seconds,
        metavar="S",
        help="fail (1) where an emitter said nothing for longer; "
        "without it, more than 90 s is told",
    )
    check.add_argument(
        "--emitters", action="store_true", help="a line for each process that recorded"
    )


def _add_inspection(verbs: _Verbs) -> None:
    routes = verbs.add(
        "routes",
        "inspecting:routes",
        "print which routes of an application it captures",
    )
    routes.add_argument(
        "app", metavar="APP", help="the application, as module:attribute"
    )
    doctor = verbs.add("doctor", "doctor:doctor", "look for what is wrong in a set-up")
    doctor.add_argument(
        "--online", action="store_true", help="also see whether witnesses answer"
    )


def _add_reading(verbs: _Verbs) -> None:
    find = verbs.add("find", "reading:find", "list decisions, newest first")
    moment = "date or time, UTC unless it says otherwise"
    find.add_argument("--from", dest="since", metavar="T", help=f"{moment}; included")
    find.add_argument("--to", dest="until", metavar="T", help=f"{moment}; not included")
    for name in ("model", "version", "route", "outcome"):
        find.add_argument(f"--{name}", metavar="X", help="exactly this one")
    _add_subject(find, required=False)
    find.add_argument("--cursor", help="`next` of the page before")
    find.add_argument("--limit", type=_positive, default=50, help="default 50")

    show = verbs.add("show", "reading:show", "print what is known of a decision")
    show.add_argument("id", metavar="ID", help="the decision-id of the answer")
    show.add_argument(
        "--content", action="store_true", help="also unseal what was captured"
    )

    receipt = verbs.add("receipt", "reading:receipt", "write a decision's proof file")
    receipt.add_argument("id", metavar="ID", help="the decision-id of the answer")
    receipt.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default stdout"
    )
    _add_proving(receipt)
    _add_disclosing(verbs)
    verbs.group("verify", "check receipts offline (see auditlog verify --help)")


def _add_proving(verb: argparse.ArgumentParser) -> None:
    """Add what every verb that writes a receipt takes."""
    verb.add_argument(
        "--renew",
        action="store_true",
        help="add a renewal to what each anchor said, by another: evidence grows old",
    )
    verb.add_argument(
        "--renew-by",
        metavar="ANCHOR",
        action="append",
        help="as --renew, by this anchor; may be repeated, the first that can does",
    )
    verb.add_argument(
        "--wait",
        choices=("included", "witnessed", "anchored"),
        help="until it is so",
    )
    verb.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="of --wait; default 30"
    )


def _add_disclosing(verbs: _Verbs) -> None:
    disclose = verbs.add(
        "disclose",
        "disclosing:run",
        "write a receipt that opens parts of a decision for somebody; it is logged",
    )
    add = disclose.add_argument
    add("id", metavar="ID", help="the decision-id of the answer")
    what = disclose.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--field",
        metavar="PATH",
        action="append",
        help="open this part, such as request/age; may be repeated",
    )
    what.add_argument(
        "--all",
        action="store_true",
        help="open all that is kept, and give the secret: full opening",
    )
    add("--recipient", required=True, metavar="NAME", help="to whom; sealed")
    add("--purpose", metavar="TEXT", help="what for; sealed")
    add("-o", "--output", metavar="FILE", type=Path, help="default stdout")
    _add_proving(disclose)

    export = verbs.add(
        "export", "exporting:export", "write all that is held on one person to a zip"
    )
    _add_subject(export, required=True)
    export.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="made 0600"
    )


def _add_subject(verb: argparse.ArgumentParser, *, required: bool) -> None:
    """Add whom it is about; who looks for what is held on somebody says for whom."""
    verb.add_argument(
        "--subject",
        metavar="S",
        required=required,
        help="decisions about whom or what, by identifier; `-` reads it from stdin, so "
        "that no list of processes shows it",
    )
    verb.add_argument(
        "--kind",
        metavar="K",
        default="person",
        help="what the identifier identifies; default person",
    )
    verb.add_argument(
        "--recipient",
        metavar="NAME",
        required=required,
        help="who gets it; with --subject, which is logged",
    )
    verb.add_argument("--purpose", metavar="TEXT", help="why; likewise")


def _add_amending(verbs: _Verbs) -> None:
    amend = verbs.add(
        "amend", "amending:amend", "add what became known of a decision later"
    )
    amend.add_argument("id", metavar="ID", help="the decision-id of the answer")
    amend.add_argument(
        "--kind", required=True, choices=get_args(AmendmentKind), help="in clear"
    )
    sealed = "sealed, and disclosed by itself"
    amend.add_argument("--by", metavar="NAME", help=f"who says so; {sealed}")
    amend.add_argument("--reason", metavar="TEXT", help=f"why; {sealed}")
    amend.add_argument("--label", metavar="L", help="what holds now, or came true")
    amend.add_argument("--score", metavar="N", help="likewise, a decimal number")
    amend.add_argument(
        "--attribute",
        metavar="NAME=TEXT",
        action="append",
        default=[],
        help="anything else; may be repeated",
    )


def _add_erasing(verbs: _Verbs) -> None:
    verb = verbs.add(
        "erase",
        "erasing:erase_content",
        "erase all content about somebody, for ever; without --yes only say what goes",
    )
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--subject", metavar="S", help="identifier; - reads it on stdin")
    which.add_argument(
        "--decision", metavar="ID", help="one decision whose content has its own key"
    )
    which.add_argument(
        "--list", action="store_true", help="erasures, and what each waits for"
    )
    which.add_argument(
        "--finish", action="store_true", help="make them final, where they can be"
    )
    which.add_argument(
        "--replay", type=Path, metavar="FILE", help="apply a copy of keys/erased"
    )
    verb.add_argument(
        "--kind", default="person", metavar="K", help="of the subject; default person"
    )
    verb.add_argument("--yes", action="store_true", help="erase it")
    verb.add_argument(
        "--reason", metavar="TEXT", help="why; sealed, and it stays: name nobody"
    )
    verb.add_argument(
        "--receipt",
        type=Path,
        metavar="FILE",
        help="proof for the person (new file); with --finish, the file to be completed",
    )


def _add_monitor(verbs: _Verbs) -> None:
    monitor = verbs.add(
        "monitor",
        "monitoring:monitor",
        "follow a log from outside, and keep proof of a fork",
        _common(needs_dir=True, whose="monitor"),
    )
    add = monitor.add_argument
    add("url", metavar="URL", help="where the log serves /checkpoint and /tile/")
    add("--policy", type=Path, metavar="FILE", required=True, help="whom you believe")
    add("--origin", metavar="NAME", help="which log of the policy, if it names several")
    add(
        "--vantage",
        metavar="URL",
        action="append",
        default=[],
        help="where the same log is seen otherwise: a mirror, a witness's monitoring "
        "path, another network; may be repeated",
    )
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="token of an auditor (0600; AUDITLOG_TOKEN), to read entries as well",
    )
    age = "fail (12) where"
    add(
        "--max-anchor-lag",
        type=_seconds,
        metavar="S",
        help=f"{age} an entry is under no final anchor after so long",
    )
    add(
        "--max-silence",
        type=_seconds,
        metavar="S",
        help=f"{age} a process says nothing for longer",
    )
    add("--webhook", metavar="URL", help="gets each finding once (AUDITLOG_WEBHOOK)")
    add("--metrics", type=Path, metavar="FILE", help="for Prometheus, after each round")
    add(
        "--start",
        type=_index,
        default=0,
        metavar="N",
        help="rebuild from about this entry on; default 0, or where it was pruned to",
    )
    add("--timeout", type=_wait, default=30.0, metavar="S", help="of a request; 30")
    add(
        "--max-time",
        type=_wait,
        default=3600.0,
        metavar="S",
        help="of one round of rebuilding, which the next one goes on with; 3600",
    )
    often = monitor.add_mutually_exclusive_group()
    often.add_argument("--once", action="store_true", help="look once, and say by exit")
    often.add_argument(
        "--interval", type=_wait, default=60.0, metavar="S", help="default 60"
    )


def _add_model(verbs: _Verbs) -> None:
    digest = verbs.add(
        "digest", "modelling:digest", "print digest and format of a file or directory"
    )
    digest.add_argument(
        "path", metavar="PATH", type=Path, help="nothing in it is run or unpickled"
    )


def _add_key(verbs: _Verbs) -> None:
    verbs.add("list", "operating:key_list", "names, ids and kinds of the keys")
    verbs.add("vkey", "operating:key_vkey", "the verifier keys, for a policy file")
    verbs.add(
        "rotate",
        "keeping:rotate",
        "wrap the keys of the vault under a new key-encryption key",
    )
    backup = verbs.add("backup", "keeping:backup", "copy the keyring to a new file")
    backup.add_argument(
        "file", metavar="FILE", type=Path, help="apart from the log's directory"
    )
    backup.add_argument(
        "--keep",
        type=_days,
        default=_days("30d"),
        metavar="DAYS",
        help="how long it may be kept, such as 30d: a person is not forgotten for good "
        "before all copies are gone; default 30d",
    )
    backups = verbs.add("backups", "keeping:backups", "list the copies on record")
    backups.add_argument(
        "--forget", metavar="ID", help="record that this one was destroyed early"
    )
    restore = verbs.add("restore", "keeping:restore", "put back keys from a copy")
    restore.add_argument(
        "file", metavar="FILE", type=Path, help="that `key backup` made"
    )
    lost = verbs.add(
        "lost", "keeping:lost", "say which keys do not open; with --yes, give them up"
    )
    lost.add_argument(
        "--yes",
        action="store_true",
        help="put on record that they are lost, so that a service can go on: what they "
        "sealed is never read again; without it nothing is changed",
    )


def _add_token(verbs: _Verbs) -> None:
    create = verbs.add("create", "tokens:create", "make a token, shown once")
    add = create.add_argument
    add("--role", required=True, choices=ROLES, help="what it may do")
    add("--label", default="", metavar="L", help="whom it is for")
    add(
        "--expires",
        default="90d",
        metavar="WHEN",
        help="30d, 12h, a date or time, or never; default 90d",
    )
    often = "may be repeated"
    add(
        "--route",
        metavar="GLOB",
        action="append",
        default=[],
        help=f"it sees these routes or operations only; * is any text; {often}",
    )
    add(
        "--decision",
        metavar="ID",
        action="append",
        default=[],
        help=f"it sees this decision only; {often}",
    )
    add("--since", metavar="T", help="it sees decisions from this time on only")
    add("--until", metavar="T", help="it sees decisions before this time only")
    verbs.add("list", "tokens:list_", "ids, roles, expiry and scope of the tokens")
    revoke = verbs.add("revoke", "tokens:revoke", "make a token useless")
    revoke.add_argument("token", metavar="ID", help="its id in the list")


def _add_anchor(verbs: _Verbs) -> None:
    now = verbs.add("now", "anchoring:now", "ask all anchors once, whatever is due")
    now.add_argument(
        "--also",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="logs to be anchored under the same digests, by the anchors of the first",
    )
    deploy = verbs.add(
        "deploy", "anchoring:deploy", "deploy the contract of an anchor where it is not"
    )
    deploy.add_argument("anchor", metavar="NAME", help="an anchor of kind evm")
    deploy.add_argument(
        "--dry-run", action="store_true", help="only say whether it stands"
    )
    verbs.add("status", "anchoring:status", "how far each anchor has come")
    verbs.add("upgrade", "anchoring:upgrade", "look at what is pending, submit nothing")
    verbs.add("trust", "trusting:trust", "a trust file for verifiers to begin with")


def _add_witness(verbs: _Verbs) -> None:
    init = verbs.add("init", "serving:witness_init", "make a witness and its keys")
    init.add_argument("--name", required=True, help="such as witness.example/w1")
    serve = verbs.add("serve", "serving:witness_serve", "cosign the logs named")
    serve.add_argument(
        "--log",
        dest="logs",
        metavar="VKEY",
        nargs="+",
        action="extend",
        default=[],
        help="verifier keys of logs to cosign",
    )
    serve.add_argument(
        "--logs",
        dest="lists",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        help="lists of logs to cosign (logs/v0), read again when they change",
    )
    serve.add_argument(
        "--qpd",
        type=_many,
        metavar="N",
        default=86_400,
        help="requests a day for each --log; default 86400",
    )
    serve.add_argument(
        "--rate",
        type=_positive,
        metavar="N",
        default=200,
        help="requests a second for all logs; default 200",
    )
    serve.add_argument(
        "--spec",
        choices=("main", "v1.0.0"),
        default="main",
        help="the text of tlog-witness that says how a fork is refused: 422 or 409",
    )
    serve.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    serve.add_argument("--port", type=_port, default=8643, help="default 8643; 0: any")
    verbs.add(
        "status", "serving:witness_status", "what it saw of each log, and refused"
    )


def _port(text: str) -> int:
    return _integer(text, 0, 65_535)


def _many(text: str) -> int:
    return _integer(text, 1, (1 << 31) - 1)


def _positive(text: str) -> int:
    return _integer(text, 1, 10_000)


def _index(text: str) -> int:
    return _integer(text, 0, 2**63 - 1)


def _wait(text: str) -> float:
    return float(_integer(text, 1, 86_400))


def _seconds(text: str) -> float:
    return float(_integer(text, 0, 10**9))


def _days(text: str) -> int:
    """Return how many microseconds a number of days is, as in ``30d``."""
    if not text.endswith("d"):
        msg = f"expected a number of days, as in 30d, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return _integer(text[:-1], 1, 36_500) * 86_400_000_000


def _integer(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        msg = f"expected a whole number from {low} to {high}, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
