"""The demo, act by act: set up, decide, audit, cheat."""

import base64
import json
import re
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from auditlog.core.checkpoint import Checkpoint, open_checkpoint
from auditlog.core.note import COSIGNATURE_ED25519, ED25519, ML_DSA_44
from auditlog.core.proof import parse_tlog_proof
from auditlog.core.receipt import parse_receipt
from auditlog.core.tiles import TILE_WIDTH, parse_bundle, tile_path
from auditlog.log.directory import open_log
from demo_service.auditor import compare_batches, compare_proof
from demo_service.client import Reply, http
from demo_service.deployment import (
    ORIGIN,
    QUORUM,
    Deployment,
    deploy,
    start_service,
    start_stranger,
    start_witnesses,
)
from demo_service.letter import Letter, ask_for_letter
from demo_service.models import load_data
from demo_service.offline import build_verifier, damaged_copies, verify
from demo_service.outside import (
    Outside,
    deploy_contract,
    start_authority,
    start_outside,
)
from demo_service.persons import Archive, export, forget, nothing_opens, proof_of
from demo_service.processes import DemoError, Processes, run
from demo_service.screen import Screen
from demo_service.traffic import KINDS, Decision, make_calls, send
from demo_service.trials import Evidence, Finding, Trials

__all__ = ["Story"]

_DECISIONS = 600
_DAMAGED = 64
_LAST = 50
_ENTRIES_SECONDS = 30.0
_WITNESSED_SECONDS = 30.0
_ANCHORED_SECONDS = 60.0
_LABEL = "response/label"
_BRACKETS = re.compile(r" \([^)]*\)")
_HASH = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")
_SUFFIX = ".receipt.json"
_OWN_TYPES = [ED25519, ML_DSA_44]
_WITNESS_TYPES = [COSIGNATURE_ED25519, ML_DSA_44]


class Story:
    """One run of the demo."""

    def __init__(self, output: Path, processes: Processes, screen: Screen) -> None:
        """Prepare to play into the empty folder `output`."""
        self._output = output
        self._processes = processes
        self._screen = screen
        self._receipts = output / "receipts"
        self._patient: Decision | None = None
        """Whose decision the operator wants to be another, or never to have been."""
        self._forgotten: Decision | None = None
        """Decision about a patient who asks to be forgotten."""
        self._archive: Archive | None = None
        """What the patient is given."""
        self._letter: Letter | None = None
        """What the text model wrote, of which one word will be shown."""

    def play(self) -> None:
        """Play all acts.

        Raises:
            DemoError: something did not behave as it should.
        """
        self._screen.title(
            "auditlog demo: decisions, receipts, and an operator who cheats"
        )
        made, outside = self._set_up()
        decisions, bypassed = self._decide(made)
        last = self._wait_for_entries(made, decisions)
        newest = self._wait_for_witnesses(made, last["index"] + 1)
        self._wait_for_anchors(made, outside, last["id"])
        self._hand_out_receipts(made, decisions)
        self._answer_persons(made, outside)
        entries, batches = _fetch_log(made, newest)
        # The chain goes on: nobody can stop it.
        self._stop(("service", "service-without-log", *_witnesses(made), "authority"))
        outside.write_trust(made.trust_path, made.log)
        self._audit(made, outside, entries, batches)
        self._cheat(made, outside, bypassed)

    @property
    def patient(self) -> str:
        """Decision id of the patient."""
        assert self._patient is not None
        return self._patient.id

    @property
    def letter(self) -> Letter:
        """What the text model wrote."""
        assert self._letter is not None
        return self._letter

    # --- 1, 2: the service and its log ------------------------------------------------

    def _set_up(self) -> tuple[Deployment, Outside]:
        self._screen.act("A log; and others with processes, directories and own keys")
        made = deploy(self._output)
        start_witnesses(self._processes, made)
        outside = start_outside(self._processes, self._output)
        outside.configure(made.log)
        deploy_contract(self._processes, outside, made.log)
        self._screen.row("log", f"{ORIGIN}, which signs with Ed25519 and ML-DSA-44")
        names = ", ".join(witness.name for witness in made.witnesses)
        self._screen.row("witnesses", names)
        self._screen.row(
            "policy", f"believe the log only where {QUORUM} of them have cosigned it"
        )
        self._screen.row("authority", "stamps times as RFC 3161 says")
        there = "anvil, an EVM chain, and on it a contract that nobody owns"
        left_out = f"left out: {outside.left_out}"
        self._screen.row("chain", left_out if outside.left_out else there)
        return made, outside

    def _decide(self, made: Deployment) -> tuple[list[Decision], Reply]:
        self._screen.act(
            "A FastAPI service: two scikit-learn models, a text model, and one line"
        )
        start_service(self._processes, made)
        self._letter = ask_for_letter(made.service_url)
        calls = make_calls(load_data().test_rows(), _DECISIONS)
        decisions = send(made.service_url, calls)
        # And one call to the service that the operator runs with the log switched off.
        bypassed = http(f"{made.bypass_url}/predict", calls[0].body)
        kinds = Counter(one.call.kind for one in decisions)
        counts = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
        self._screen.row("decisions", f"{len(decisions)} over both versions: {counts}")
        count = len(self.letter.events)
        text = f"one more: the text model wrote it, word by word, in {count} events"
        self._screen.row("a letter", text)
        return decisions, bypassed

    def _wait_for_entries(
        self, made: Deployment, decisions: list[Decision]
    ) -> dict[str, Any]:
        """Wait until all decisions have their places; return the row of the last one.

        They are durable when they are answered, and get their places a little later,
        in the order in which they were accepted: no more than a few are under way.
        """
        awaited = {one.id for one in decisions[-_LAST:]}
        return self._processes.wait_until(
            "the last decisions", lambda: made.last(awaited), _ENTRIES_SECONDS
        )

    def _wait_for_witnesses(self, made: Deployment, size: int) -> Checkpoint:
        signed = self._processes.wait_until(
            "the witnesses' cosignatures",
            lambda: made.witnessed(size),
            _WITNESSED_SECONDS,
        )
        assert signed is not None
        own = [one.verifier.type for one in signed.log_signatures]
        others = [witness.verifier.type for witness, _ in signed.cosignatures]
        expected = sorted(_WITNESS_TYPES * len(made.witnesses))
        if (sorted(own), sorted(others)) != (_OWN_TYPES, expected):
            raise DemoError(f"signed with types {own}, cosigned with types {others}")
        size = signed.checkpoint.size
        self._screen.row(
            "checkpoint", f"{size} entries; log and witnesses signed, all with both"
        )
        return signed.checkpoint

    def _wait_for_anchors(self, made: Deployment, outside: Outside, last: str) -> None:
        """Wait until all who are outside have fixed the last decision in time."""

        def all_final() -> bool:
            url = f"{made.service_url}/api/v1/decisions/{last}/receipt"
            reply = http(url, token=made.token)
            if reply.status != HTTPStatus.OK:  # under no checkpoint yet
                return False
            anchors = parse_receipt(reply.body).anchors
            return {one.kind for one in anchors} == outside.kinds

        self._processes.wait_until("the anchors", all_final, _ANCHORED_SECONDS)
        said = f"a checkpoint over all decisions is fixed in time by {_and(outside)}"
        self._screen.row("anchors", said)

    def _hand_out_receipts(self, made: Deployment, decisions: list[Decision]) -> None:
        self._receipts.mkdir()
        chosen = {
            f"{one.call.kind}-v{one.call.version}": one for one in reversed(decisions)
        }
        for name, one in chosen.items():
            receipt = made.get(f"/api/v1/decisions/{one.id}/receipt").body
            (self._receipts / f"{name}{_SUFFIX}").write_bytes(receipt)
        self._patient, self._forgotten = _two_persons(decisions)
        self._disclose(made, "patient", self.patient, _LABEL)
        self._disclose(made, "forgotten", self._forgotten.id, _LABEL)
        self._disclose(made, "letter", self.letter.id, self.letter.path)
        self._screen.row("receipts", f"{3 + len(chosen)}; the patient's opens {_LABEL}")

    def _disclose(self, made: Deployment, name: str, id_: str, path: str) -> None:
        """Write a receipt that opens one part of a decision."""
        output = str(self._receipts / f"{name}{_SUFFIX}")
        told = ["--dir", str(made.log), "--field", path, "--output", output]
        run(["-m", "auditlog", "disclose", id_, "--recipient", name, *told])

    # --- 3: the persons ---------------------------------------------------------------

    def _answer_persons(self, made: Deployment, outside: Outside) -> None:
        self._screen.act(
            "One patient asks what is held on them, another asks to be forgotten"
        )
        assert self._patient is not None
        assert self._forgotten is not None
        self._wait_until_all_is_witnessed(made)
        path = self._output / "patient.zip"
        self._archive = export(made, self._patient.patient, path)
        name = self._patient.call.body["patient"]["name"].encode()
        if name in self._archive.every_byte():
            raise DemoError("a name that a rule takes out is in the archive")
        done = self._archive.done
        text = f"{done.decisions} decisions with {done.receipts} receipts"
        text = f"{text}, and no name: a rule keeps names out of the log"
        self._screen.row("exported", text)
        erased = forget(made, self._forgotten.patient)
        receipt = proof_of(made, outside, self._processes, erased)
        (self._receipts / f"erasure{_SUFFIX}").write_bytes(receipt)
        text = f"{erased.records} entries lost their content with one key"
        self._screen.row("erased", f"{text}; the log says so, not of whom")

    def _wait_until_all_is_witnessed(self, made: Deployment) -> None:
        with open_log(made.log) as log:
            size = log.store.size()
        self._processes.wait_until(
            "the cosignatures", lambda: made.witnessed(size), _WITNESSED_SECONDS
        )

    def _stop(self, names: Sequence[str]) -> None:
        for name in names:
            self._processes.stop(name)

    # --- 4: the auditor ---------------------------------------------------------------

    def _audit(
        self, made: Deployment, outside: Outside, entries: list[bytes], batches: bytes
    ) -> None:
        self._screen.act(
            "Everything is stopped, and what was handed out is checked offline"
        )
        self._verify_receipts(made, outside)
        patient = (self._receipts / f"patient{_SUFFIX}").read_bytes()
        proof = parse_tlog_proof(parse_receipt(patient).proof)
        tree = open_checkpoint(proof.checkpoint, made.policy).checkpoint
        full = compare_batches(entries, batches)
        compare_proof(entries[: tree.size], proof.index, proof.hashes, tree.root)
        text = (
            f"{full} batches of {TILE_WIDTH} and the patient's proof rebuilt: the same"
        )
        self._screen.row("merkletools", text)
        said = run(["-m", "auditlog", "check", "--dir", str(made.log)])
        # How many decisions there are stands above, and there is no room for it here.
        self._screen.row("check", _BRACKETS.sub("", said.splitlines()[-1]))

    def _verify_receipts(self, made: Deployment, outside: Outside) -> None:
        verifier = build_verifier(self._output)
        receipts = {p.name: p.read_bytes() for p in sorted(self._receipts.iterdir())}
        believed = verifier, made.policy_path, made.trust_path, len(outside.parties)
        said = verify(*believed, receipts)
        if not all(one["ok"] for one in said.values()):
            raise DemoError(f"receipts are refused: {said}")
        patient = said[f"patient{_SUFFIX}"]
        text = f"{len(said)} of {len(said)} receipts hold, by {verifier.name} alone"
        self._screen.row("verified", text)
        self._screen.row("the patient", _told(patient))
        closed = patient["not_proven"][-1].removeprefix("anything about the ")
        text = f"{closed}: the request, the score, and whom it is about"
        self._screen.row("not shown", text)
        self._verify_persons(made, believed, said)
        word = self.letter.opened(said[f"letter{_SUFFIX}"])
        text = f'{self.letter.path} of the letter is "{word}"; no other event is opened'
        self._screen.row("one event", text)
        self._screen.row("existed", _existed(patient, outside))
        first, *others = patient["not_proven"]
        text = f"{first.partition(':')[0]}, and {len(others)} other points"
        self._screen.row("not proven", text)
        damaged = damaged_copies(receipts[f"patient{_SUFFIX}"], _DAMAGED)
        said = verify(*believed, damaged)
        refused = sum(not one["ok"] for one in said.values())
        if refused != _DAMAGED:
            raise DemoError(f"{_DAMAGED - refused} damaged receipts were accepted")
        self._screen.row(
            "damaged", f"{refused} of {_DAMAGED} copies with one bit turned refused"
        )

    def _verify_persons(
        self,
        made: Deployment,
        believed: tuple[Path, Path, Path, int],
        said: dict[str, Any],
    ) -> None:
        """Look at what the two persons hold: the receipts, and nothing of the log."""
        assert self._archive is not None
        assert self._forgotten is not None
        mine = verify(*believed[:3], 0, self._archive.receipts())
        if not mine or not all(one["ok"] for one in mine.values()):
            raise DemoError(f"receipts of an export are refused: {mine}")
        nothing_opens(made, self._forgotten.id)
        old = _opened(said[f"forgotten{_SUFFIX}"])[_LABEL]
        about = json.loads(_opened(said[f"erasure{_SUFFIX}"])["context/subject"])
        if about["id"] != self._forgotten.patient:
            raise DemoError("the receipt of an erasure is about somebody else")
        text = f"{len(mine)} of {len(mine)} receipts in the archive hold"
        self._screen.row("exported", text)
        text = f"the log opens nothing; an old receipt still shows {old}, and holds"
        self._screen.row("erased", text)

    # --- 5: the dishonest operator ----------------------------------------------------

    def _cheat(self, made: Deployment, outside: Outside, bypassed: Reply) -> None:
        self._screen.act(
            "The operator cheats, with all files and all keys of the log, on copies"
        )
        scratch = self._output / "operator"
        scratch.mkdir()
        receipt = (self._receipts / f"patient{_SUFFIX}").read_bytes()
        evidence = Evidence(receipt, made.policy, made.trust)
        trials = Trials(made.log, scratch, evidence)
        self._report("edits stored content", trials.edit_content())
        self._report("deletes an entry", trials.delete_entry())
        self._report("swaps two entries", trials.swap_entries())
        start_witnesses(self._processes, made)
        start_authority(self._processes, outside)
        urls = [witness.url for witness in made.witnesses]
        self._report("rebuilds and re-signs it all", trials.rebuild(urls))
        self._report("... and has that anchored", trials.anchor_rebuilt(outside))
        stranger = start_stranger(self._processes, made)
        self._report("... before any witness saw it", trials.rebuild_unseen(stranger))
        self._report("answers around the middleware", trials.bypass(bypassed))
        self._stop((*_witnesses(made), "stranger.example-witness", "authority"))

    def _report(self, attack: str, findings: list[Finding]) -> None:
        for number, (result, what) in enumerate(findings):
            text = _HASH.sub(r"\1", what)
            self._screen.finding("" if number else attack, result, text)


def _witnesses(made: Deployment) -> list[str]:
    """Return the names of the witnesses' processes."""
    return [witness.directory.name for witness in made.witnesses]


def _and(outside: Outside) -> str:
    return " and ".join(outside.parties)


def _existed(said: dict[str, Any], outside: Outside) -> str:
    """Return when the patient's decision existed at the latest, and who says so."""
    parties = {one["party"] for one in said["anchors"]}
    if parties != set(outside.parties):
        raise DemoError(f"expected {outside.parties} to vouch, got {parties}")
    return f"before {said['existedBefore'][:19]}Z, by {_and(outside)}, offline"


def _two_persons(decisions: list[Decision]) -> tuple[Decision, Decision]:
    """Return decisions from the middle that two persons would want to question."""
    bad = [
        one
        for one in decisions
        if one.call.kind == "json" and b"malignant" in one.answer
    ]
    first = bad[len(bad) // 2]
    other = next(one for one in reversed(bad) if one.patient != first.patient)
    return first, other


def _fetch_log(made: Deployment, newest: Checkpoint) -> tuple[list[bytes], bytes]:
    """Return all entries under a checkpoint, and the hashes of its full batches."""
    entries: list[bytes] = []
    while len(entries) < newest.size:
        width = min(TILE_WIDTH, newest.size - len(entries))
        path = tile_path("entries", len(entries) // TILE_WIDTH, width)
        entries += parse_bundle(made.get(f"/{path}").body, width)
    full = newest.size // TILE_WIDTH
    return entries, made.get(f"/{tile_path(1, 0, full)}").body


def _opened(said: dict[str, Any]) -> dict[str, str]:
    """Return what a receipt opens, by path."""
    return {
        one["path"]: base64.b64decode(one["value"]).decode()
        for one in said["disclosed"]
    }


def _told(said: dict[str, Any]) -> str:
    """Return the patient's verdict in a few words."""
    ((path, value),) = _opened(said).items()
    who = f"{len(said['signers'])} log keys, {len(said['witnesses'])} witness keys"
    return f"{path} = {value} in entry {said['index']} of {said['size']}; {who}"
