"""Each dishonest act, tried on a copy of the log, and what catches it.

Nothing here is a foregone conclusion: every line comes from running the check, the
verifier or the witness against what the operator made, and a trial whose act is not
caught as it should be, or is caught though the demo says it is not, raises.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from auditlog.anchors.trust import Trust
from auditlog.anchors.verdict import AnchoredVerdict, verify_anchored_receipt
from auditlog.core.checkpoint import Policy, parse_checkpoint
from auditlog.core.errors import AuditLogError, UntrustedError, VerificationError
from auditlog.core.note import split_unverified_note
from auditlog.core.proof import AddCheckpoint, format_add_checkpoint
from auditlog.core.receipt import format_receipt, parse_receipt, with_checksum
from auditlog.core.record import format_id
from auditlog.core.verify import compare_receipts, verify_receipt
from auditlog.log.check import CheckReport, check_log
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from demo_service import dishonest_operator
from demo_service.client import Reply, http
from demo_service.outside import Outside
from demo_service.processes import DemoError, run

__all__ = ["CAUGHT", "MISSED", "PASSED", "Evidence", "Finding", "Trials"]

CAUGHT = "CAUGHT"
MISSED = "NOT CAUGHT"
PASSED = "passes"
"""This check alone says nothing against it."""
_ROOT = "signed root "
_LOST = re.compile(r"numbers (\d+) to \1 are neither in the log nor named by a gap")


class Evidence(NamedTuple):
    """What somebody other than the operator holds, and keeps."""

    receipt: bytes
    policy: Policy
    trust: Trust

    @property
    def verdict(self) -> AnchoredVerdict:
        """What the receipt proves; it must still do so."""
        return verify_anchored_receipt(self.receipt, self.policy, self.trust)


class Finding(NamedTuple):
    """What one check had to say of one act."""

    result: str
    """`CAUGHT`, `PASSED` or `MISSED`."""
    what: str


class Trials:
    """The operator's acts, one method each."""

    def __init__(self, log: Path, scratch: Path, evidence: Evidence) -> None:
        """Prepare to try.

        Args:
            log: directory of the stopped log, which stays as it is.
            scratch: folder for the copies, one for each act.
            evidence: receipt of a decision of that log, with its policy.
        """
        self._log = log
        self._scratch = scratch
        self._evidence = evidence
        self._index = evidence.verdict.index

    def edit_content(self) -> list[Finding]:
        """Change the stored answer of a decision, sealed again with the real key."""
        copy = self._copy("edited")
        dishonest_operator.edit_content(copy, self._index, b"malignant", b"benign")
        with open_log(copy) as log:
            reader, id_ = Reader(log), self._evidence.verdict.id
            said = _refusal(lambda: reader.content(id_))
        _expect("does not match the commitment", said)
        where = [problem.where for problem in _check(copy).problems]
        if where != [f"vault row {self._index}"]:
            raise DemoError(f"expected one problem, in the edited content: {where}")
        return [
            Finding(CAUGHT, "unsealing: not what the entry committed to"),
            Finding(CAUGHT, f"check: {where[0]}, and nothing else"),
        ]

    def delete_entry(self) -> list[Finding]:
        """Remove the decision."""
        copy = self._copy("deleted")
        dishonest_operator.delete_entry(copy, self._index)
        found, problems = _LOST.findall(str(_check(copy).problems)), _unsigned(copy)
        if len(found) != 1:
            raise DemoError(f"expected one number to be missing, not {found}")
        said = f"check: {problems} problems; wrong root, number {found[0]} missing"
        return [Finding(CAUGHT, said), self._held_against(copy)]

    def swap_entries(self) -> list[Finding]:
        """Let the decision change places with the one before it."""
        copy = self._copy("swapped")
        dishonest_operator.swap_entries(copy, self._index - 1, self._index)
        said = f"check: {_unsigned(copy)} problems; not the root that was signed"
        return [Finding(CAUGHT, said), self._held_against(copy)]

    def rebuild(self, witness_urls: Sequence[str]) -> list[Finding]:
        """Rebuild the whole tree without the decision, signed with the real keys.

        Args:
            witness_urls: of the witnesses that saw the log all along.
        """
        copy = self._rebuilt()
        report = _check(copy)
        if report.problems:
            raise DemoError(f"well made, it fails the check: {report.problems[0]}")
        alone = f"check: {report.entries} entries, well signed, no problem"
        return [
            Finding(PASSED, alone),
            *self._ask_to_cosign(copy, witness_urls),
            *self._hold_receipts_against(copy),
        ]

    def anchor_rebuilt(self, outside: Outside) -> list[Finding]:
        """Have the other history fixed in time, as the true one was.

        Args:
            outside: authority and chain, which run.
        """
        copy = self._rebuilt()
        moved = self._move_anchors(copy)
        dishonest_operator.ask_no_witness(copy)
        refused = _ask_chain(copy) if outside.chain else []
        dishonest_operator.ask_the_authority_alone(copy)
        run(["-m", "auditlog", "anchor", "now", "--dir", str(copy)])
        return [moved, self._came_late(copy), *refused]

    def rebuild_unseen(self, witness_url: str) -> list[Finding]:
        """Rebuild the tree before any witness saw it.

        Args:
            witness_url: of a witness that never saw the log.
        """
        reply = _submit(self._rebuilt(), witness_url, 0).expect(200)
        said = f"{reply.status}: a witness new to the log cosigns this history"
        return [Finding(MISSED, said)]

    def bypass(self, reply: Reply) -> list[Finding]:
        """Answer a caller around the middleware.

        Args:
            reply: what the service said, running with the log switched off.
        """
        reply.expect(200)
        report = _check(self._log)
        if "decision-id" in reply.headers or report.problems:
            raise DemoError("the decision that went around the log left a trace")
        said = f"{reply.status} without a decision-id; the log misses nothing"
        return [Finding(MISSED, said)]

    def _copy(self, name: str) -> Path:
        return dishonest_operator.copy_log(self._log, self._scratch / name)

    def _rebuilt(self) -> Path:
        path = self._scratch / "rebuilt"
        if not path.exists():
            dishonest_operator.rebuild_without(self._copy(path.name), self._index)
        return path

    def _held_against(self, copy: Path) -> Finding:
        """Hold the log against the receipt, which must still verify."""
        index = self._evidence.verdict.index
        with open_log(copy) as log:
            if (
                Reader(log).entry_at(index)
                == parse_receipt(self._evidence.receipt).entry
            ):
                raise DemoError("the receipt and the changed log agree")
        said = f"receipt: verifies, but the log has another entry {index}"
        return Finding(CAUGHT, said)

    def _ask_to_cosign(self, copy: Path, witness_urls: Sequence[str]) -> list[Finding]:
        """Ask as if nobody had seen the log, then with the best proof there is."""
        answers = [_ask(copy, url) for url in witness_urls]
        seen, said = answers[0]
        who = f"witnesses: {len(answers)} of {len(answers)}"
        return [
            Finding(CAUGHT, f"{who}, 409: saw {seen} entries, not none"),
            Finding(CAUGHT, f"{who}, 422: {said}"),
        ]

    def _move_anchors(self, copy: Path) -> Finding:
        """Lend the anchors of the true history to the other one."""
        new = parse_receipt(_receipt_at(copy, self._index))
        old = parse_receipt(self._evidence.receipt).anchors
        policy, trust = self._operator_alone(), self._evidence.trust
        for one in old:
            lent = with_checksum(one._replace(proof=new.proof))
            receipt = format_receipt(replace(new, anchors=(lent,)))
            said = _refusal(partial(verify_anchored_receipt, receipt, policy, trust))
            _expect(f"anchor 1 ({one.kind})", said)
        return Finding(CAUGHT, f"time: none of the {len(old)} attestations fits it")

    def _came_late(self, copy: Path) -> Finding:
        """Ask for a stamp of the other history, which can only be a later one."""
        receipt = _receipt_at(copy, self._index)
        policy, trust = self._operator_alone(), self._evidence.trust
        late = verify_anchored_receipt(receipt, policy, trust, min_anchors=1)
        early = min(one.not_after for one in self._evidence.verdict.anchors)
        assert late.existed_before is not None
        if late.existed_before <= early:
            raise DemoError("the other history is as old as the true one")
        seconds = (late.existed_before - early) / 1_000_000
        return Finding(
            CAUGHT, f"time: a new stamp says {seconds:.0f} s later than ours"
        )

    def _operator_alone(self) -> str:
        """Return a policy that asks for no witness."""
        keys = self._evidence.policy.logs
        return "".join(f"log {key.verifier.vkey}\n" for key in keys) + "quorum none\n"

    def _hold_receipts_against(self, copy: Path) -> list[Finding]:
        """Verify a receipt of the new history, alone and beside the old one."""
        old, new = self._evidence.receipt, _receipt_at(copy, self._index)
        policy = self._evidence.policy
        said = _refusal(lambda: verify_receipt(new, policy), UntrustedError)
        _expect("got no witness", said)
        alone = self._operator_alone()
        fork = _refusal(lambda: compare_receipts(old, new, alone))
        _expect(f"has forked: it signed two entries with index {self._index}", fork)
        return [
            Finding(CAUGHT, "policy: refuses its receipts, as no witness cosigned"),
            Finding(
                CAUGHT, f"receipts: the log signed two entries {self._index}: forked"
            ),
        ]


def _expect(words: str, said: str) -> None:
    if words not in said:
        raise DemoError(f"expected to hear {words!r}, but heard {said!r}")


def _check(directory: Path) -> CheckReport:
    with open_log(directory) as log:
        return check_log(log)


def _unsigned(directory: Path) -> int:
    """Return how many problems a log has that is not the one that was signed."""
    problems = _check(directory).problems
    if not any(problem.what.startswith(_ROOT) for problem in problems):
        raise DemoError(f"no signed root contradicts the log: {problems[:3]}")
    return len(problems)


def _refusal(
    attempt: Callable[[], object], kind: type[AuditLogError] = VerificationError
) -> str:
    """Return the words in which `attempt` is refused, as it must be."""
    try:
        attempt()
    except kind as error:
        return str(error)
    raise DemoError(f"expected {kind.__name__}, and nothing was refused")


def _receipt_at(directory: Path, index: int) -> bytes:
    with open_log(directory) as log:
        reader = Reader(log)
        (row,) = log.store.index_rows(index, index + 1)
        return reader.receipt(format_id(row.id))


def _ask_chain(directory: Path) -> list[Finding]:
    """Ask the anchors, as an operator does, and hear what the chain has to say."""
    command = ["-m", "auditlog", "anchor", "now", "--dir", str(directory)]
    said = run(command, status=VerificationError.exit_code)
    found = re.search(r"the chain knows another past of this log: ([^;\n]*)", said)
    if found is None:
        raise DemoError(f"the chain was expected to refuse, but said {said!r}")
    return [Finding(CAUGHT, f"chain: {found[1]}")]


def _ask(directory: Path, witness_url: str) -> tuple[int, str]:
    """Be refused by a witness; return what it had seen, and why it refuses."""
    seen = int(_submit(directory, witness_url, 0).expect(409).text)
    said = _submit(directory, witness_url, seen).expect(422).text.strip()
    _expect("consistency proof", said)
    return seen, said


def _submit(directory: Path, witness_url: str, old: int) -> Reply:
    """Ask a witness to cosign the newest checkpoint, as an operator would."""
    with open_log(directory) as log:
        reader = Reader(log)
        note = reader.checkpoint()
        hashes = reader.consistency(old, _size_of(note)) if old else ()
    body = format_add_checkpoint(AddCheckpoint(old, hashes, note))
    return http(f"{witness_url}/add-checkpoint", body, media_type="text/plain")


def _size_of(note: bytes) -> int:
    return parse_checkpoint(split_unverified_note(note)[0]).size
