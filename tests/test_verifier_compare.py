"""Frauds that no receipt shows alone: each verifies, and two together convict.

The operator commits to leaves that cannot be true together, or logs one call twice, and
hands each party the half that suits it. Every log here is signed by its right keys.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from auditlog.core.commitment import chunks, members
from auditlog.core.pieces import TEXT, frame, split_body
from auditlog.core.receipt import Related, format_receipt, parse_receipt
from auditlog.core.record import Entry, format_entry, format_id, parse_entry
from auditlog.verifier import main
from tests.receipts import (
    ORIGIN,
    TIME,
    Decision,
    MemoryLog,
    make_decision,
    make_id,
)

REQUEST = b'{"age": 41, "income": 52000, "name": "Ada"}'
ID = format_id(make_id(0))
ONE_ENTRY = (
    f"evidence of fraud: both are of one entry, {ID}, and what is opened of it cannot "
    "be true together: "
)
Judge = Callable[..., list[str]]


def log_of(*decisions: Decision) -> MemoryLog:
    return MemoryLog(entries=[b"leaf", *(one.entry for one in decisions)])


@pytest.fixture
def judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Judge:
    """Verify receipts of a log, each alone, then all; return what they contradict."""

    def run(log: MemoryLog, *receipts: bytes) -> list[str]:
        policy = tmp_path / "policy"
        policy.write_text(log.policy())
        names = [str(tmp_path / f"{n}.receipt.json") for n in range(len(receipts))]
        for name, data in zip(names, receipts, strict=True):
            Path(name).write_bytes(data)
            assert main([name, "--policy", str(policy)]) == 0, capsys.readouterr().out
        capsys.readouterr()
        status = main([*names, "--policy", str(policy)])
        said = capsys.readouterr().out.split("\n\n")[-1].splitlines()
        assert status == (10 if said[1:] else 0)
        assert said[0].endswith("; THEY CONTRADICT EACH OTHER") is bool(said[1:])
        return [line.replace(f"{tmp_path}/", "") for line in said[1:]]

    return run


def shown(log: MemoryLog, decision: Decision, *each: str) -> list[bytes]:
    """Return a receipt for each path that is disclosed alone."""
    return [log.receipt(decision, path) for path in each]


def cut(side: str, split: str, body: bytes) -> list[tuple[str, bytes]]:
    found = split_body(split, side, body, 1)
    assert found
    return found


# --- one decision, opened in parts ----------------------------------------------------


def test_receipts_of_an_honest_log_agree(judge: Judge) -> None:
    one, other = make_decision(), make_decision(1)
    log = log_of(one, other)
    paths = ("request", "response", "request/age", "response/score", "context/target")
    full = log.receipt(one, "request", "response", full=True)
    secret = log.receipt(one, full=True)
    bare = [log.receipt(other), log.receipt(one)]
    assert judge(log, *shown(log, one, *paths), full, secret, *bare) == []


def test_a_field_that_does_not_stand_in_the_body_shown_to_somebody_else(
    judge: Judge,
) -> None:
    lie = make_decision(
        leaves=[
            ("request/age", b"17"),
            ("request/income", b"52000"),
            ("request/name", b'"Ada"'),
            ("response/decision", b'"approve"'),
            ("response/score", b"0.8731"),
        ]
    )
    log = log_of(lie)
    why = "expected 'request/age' as it stands in the request, got another value"
    said = [f"0.receipt.json and 1.receipt.json: {ONE_ENTRY}{why}"]
    assert judge(log, *shown(log, lie, "request/age", "request")) == said
    assert judge(log, *shown(log, lie, "request", "request/age")) == said


def test_the_pair_is_named_among_others(judge: Judge) -> None:
    found = members("request", REQUEST, 1) or []
    lie = make_decision(leaves=[("request/age", b"17"), *found[1:]])
    log = log_of(make_decision(3), lie)
    honest = log.receipt(make_decision(3), "request")
    paths = ("request/income", "request/age", "request/name", "request")
    (one,) = judge(log, honest, *shown(log, lie, *paths))
    assert one.startswith("2.receipt.json and 4.receipt.json: evidence of fraud: both")


def test_what_takes_three_receipts_is_found_too(judge: Judge) -> None:
    """Between two members that are shown a third has no place."""
    found = members("request", REQUEST, 1) or []
    lie = make_decision(leaves=[found[0], ("context/x", b""), *found[1:]])
    log = log_of(lie)
    swapped = make_decision(leaves=[found[1], found[0], found[2]])
    assert judge(log, *shown(log, lie, "request/age", "request/name")) == []
    (said,) = judge(log, *shown(log, lie, "request/age", "request/name", "request"))
    assert "expected members at the places that a disclosed body gives them" in said
    log = log_of(swapped)
    paths = ("request/income", "request/age", "request")
    said = "\n".join(judge(log, *shown(log, swapped, *paths)))
    assert "expected members at the places that a disclosed body gives them" in said


def test_one_path_with_two_values(judge: Judge) -> None:
    lie = make_decision(leaves=[("request/age", b"41"), ("request/age", b"17")])
    log = log_of(lie)
    receipts = [
        log.receipt(lie, opening=lie.opening, disclosures=(one,))
        for one in lie.disclose("request/age")
    ]
    (said,) = judge(log, *receipts)
    assert said.endswith(
        f"evidence of fraud: two values of 'request/age' in one decision, {ID}"
    )


def test_one_field_that_stands_twice(judge: Judge) -> None:
    lie = make_decision(leaves=[("context/a", b"1"), ("context/a", b"1")])
    log = log_of(lie)
    receipts = [
        log.receipt(lie, opening=lie.opening, disclosures=(one,))
        for one in lie.disclose("context/a")
    ]
    (said,) = judge(log, *receipts)
    assert said.endswith(f"{ONE_ENTRY}expected one leaf for 'context/a', got two")


def test_leaves_out_of_order(judge: Judge) -> None:
    lie = make_decision(leaves=[("context/b", b"1"), ("context/a", b"1")])
    log = log_of(lie)
    (said,) = judge(log, *shown(log, lie, "context/a", "context/b"))
    assert said.endswith("expected leaves in the order of their paths")


def test_a_secret_shows_a_lie_in_what_nobody_was_shown(judge: Judge) -> None:
    found = members("request", REQUEST, 1) or []
    response = [("response/decision", b'"approve"'), ("response/score", b"0.8731")]
    lie = make_decision(leaves=[("request/age", b"17"), *found[1:], *response])
    log = log_of(lie)
    bodies, secret = (
        log.receipt(lie, "request", "response"),
        log.receipt(lie, full=True),
    )
    (said,) = judge(log, bodies, secret)
    assert said.endswith("expected the members of both bodies, got other leaves")


# --- streams, sessions, chunks, batches -----------------------------------------------

STREAM = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
TURNS = b"".join(frame(2 * n + 1, TEXT, b"turn %d" % n) for n in range(3))
LARGE = bytes(range(256)) * 4097


@pytest.mark.parametrize(
    ("split", "body", "false"),
    [
        ("sse", STREAM, b"data: 9\n\n"),
        ("ws", TURNS, b"turn 9"),
        ("chunks", LARGE, b"x" * 65_536),
    ],
)
def test_a_piece_that_does_not_stand_in_the_body(
    judge: Judge, split: str, body: bytes, false: bytes
) -> None:
    pieces = cut("response", split, body)
    pieces[1] = ("response#1", false)
    found = members("request", REQUEST, 1) or []
    lie = make_decision(
        response=body, leaves=[*found, *pieces], split={"response": split}
    )
    log = log_of(lie)
    assert judge(log, *shown(log, lie, "response#0", "response#1")) == []
    (said,) = judge(log, *shown(log, lie, "response#1", "response"))
    assert said.endswith(
        f"{ONE_ENTRY}expected 'response#1' as it stands in the response, got another "
        "value"
    )


@pytest.mark.parametrize(("split", "body"), [("sse", STREAM), ("ws", TURNS)])
def test_pieces_at_places_that_do_not_go_together(
    judge: Judge, split: str, body: bytes
) -> None:
    """One event is left out: what was first shown to one party is another's second."""
    pieces = cut("response", split, body)
    renumbered = [pieces[0], ("response#2", pieces[2][1])]
    found = members("request", REQUEST, 1) or []
    lie = make_decision(
        response=body, leaves=[*found, *renumbered], split={"response": split}
    )
    log = log_of(lie)
    (said,) = judge(log, *shown(log, lie, "response#0", "response#2"))
    assert said.endswith(
        "expected pieces of the response at the places that their numbers give them"
    )


def test_messages_of_both_directions_with_one_number(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = b"".join(frame(n, TEXT, b"ask %d" % n) for n in (0, 2))
    told = b"".join(frame(n, TEXT, b"tell %d" % n) for n in (1, 2))
    lie = make_decision(
        request=asked,
        response=told,
        leaves=[*cut("request", "ws", asked), *cut("response", "ws", told)],
        split={"request": "ws", "response": "ws"},
    )
    log = log_of(lie)
    (said,) = judge(log, *shown(log, lie, "request", "response"))
    assert said.endswith(
        "expected messages of both directions to be counted together, got two with "
        "the number 2"
    )
    (tmp_path / "policy").write_text(log.policy())
    (tmp_path / "both").write_bytes(log.receipt(lie, "request", "response"))
    assert main([str(tmp_path / "both"), "--policy", str(tmp_path / "policy")]) == 10
    assert "got two with the number 2" in capsys.readouterr().out


def test_an_item_of_a_batch_that_does_not_stand_in_it(judge: Judge) -> None:
    body = b'{"instances":[{"age":41},{"age":17}]}'
    found = members("request", body, 1) or []
    paths = [path for path, _ in found]
    assert "request/instances/1" in paths
    leaves = [
        (path, b'{"age":71}' if path.endswith("/1") else value) for path, value in found
    ]
    lie = make_decision(request=body, leaves=leaves)
    log = log_of(lie)
    for other in ("request", "request/instances"):
        (said,) = judge(log, *shown(log, lie, "request/instances/1", other))
        where = "the request" if other == "request" else repr(other)
        why = f"expected 'request/instances/1' as it stands in {where}, got another"
        assert said.endswith(f"{ONE_ENTRY}{why} value")


NESTED = b'{"a":{"b":{"c":1},"d":[2,3]},"e":4}'


def nested(change: dict[str, bytes], order: Sequence[int] = ()) -> Decision:
    """Return a decision of which some leaves are not what the body holds."""
    found = members("request", NESTED, 3) or []
    leaves = [(path, change.get(path, value)) for path, value in found]
    if order:
        leaves = [leaves[at] for at in order]
    return make_decision(request=NESTED, leaves=leaves, depth=3)


@pytest.mark.parametrize(
    ("decision", "paths", "why"),
    [
        (
            nested({"request/a/b": b'{"c":9}'}),
            ("request/a", "request/a/b"),
            "'request/a/b' as it stands in 'request/a', got another value",
        ),
        (
            nested({"request/a/b/c": b"9"}),
            ("request/a/b", "request/a/b/c"),
            "'request/a/b/c' as it stands in 'request/a/b', got another value",
        ),
        (
            nested({"request/a": b'{"b":{"c":1},"d":[2,3]'}),
            ("request/a", "request/a/d/0"),
            "'request/a/d/0' as it stands in 'request/a', got another value",
        ),
        (
            nested({}, (1, 0, 2, 3, 4, 5, 6)),
            ("request/a", "request/a/b"),
            "'request/a/b' as leaf 4, by its place in 'request/a', got leaf 2",
        ),
    ],
)
def test_a_single_receipt_that_opens_a_member_and_another_around_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    decision: Decision,
    paths: tuple[str, ...],
    why: str,
) -> None:
    """No body is needed for that, and nobody else's receipt."""
    log = log_of(decision)
    (tmp_path / "policy").write_text(log.policy())
    file = tmp_path / "receipt"
    file.write_bytes(log.receipt(decision, *paths))
    assert main([str(file), "--policy", str(tmp_path / "policy")]) == 10
    assert f"expected {why}" in capsys.readouterr().out


def test_members_of_an_honest_container_stand_in_it(judge: Judge) -> None:
    body = b'{"a":{"b":{"c":[1, 2],"inputs":[{"x":1}]},"d\\u00e9/~":"e"}}'
    decision = make_decision(request=body, depth=4)
    log = log_of(decision)
    found = [path for path, _ in members("request", body, 4) or []]
    assert "request/a/b/inputs/0" in found
    assert (
        judge(log, *shown(log, decision, *found), log.receipt(decision, *found)) == []
    )


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":{"inputs":[{"x":1,"x":2}]},"dataframe_split":{"data":[[1,2],[3]]}}',
        b'[{"dataframe_split":{"x":{"y":{"z":{"p":1}}}}}, {"instances":[[[[[[7]]]]]]}]',
    ],
)
def test_so_do_those_of_batches_whatever_else_is_called_so(
    judge: Judge, body: bytes, depth: int
) -> None:
    found = [path for path, _ in members("request", body, depth) or []]
    assert found or depth > 2
    decision = make_decision(request=body, depth=depth)
    log = log_of(decision)
    assert judge(log, *[log.receipt(decision, *found)] * 2) == []


def batch(number: int, said: bytes) -> Decision:
    return make_decision(
        number, context={"annotations": b'{"auditlog.batch":%b}' % said}
    )


def test_two_decisions_for_one_item_of_a_batch(judge: Judge) -> None:
    whole = format_id(make_id(9)).encode()
    items = [batch(n, b'{"decision":"%b","index":3,"size":8}' % whole) for n in (1, 2)]
    log = log_of(*items)
    (said,) = judge(log, *(log.receipt(one, "context/annotations") for one in items))
    assert said.endswith(
        "evidence of fraud: there are two decisions for item 3 of the batch of "
        f"decision {whole.decode()}"
    )
    honest = [
        batch(n, b'{"decision":"%b","index":%d,"size":8}' % (whole, n)) for n in (1, 2)
    ]
    log = log_of(*honest)
    assert (
        judge(log, *(log.receipt(one, "context/annotations") for one in honest)) == []
    )


def test_a_batch_with_two_sizes(judge: Judge) -> None:
    first = batch(1, b'{"size":8}')
    whole = format_id(make_id(1)).encode()
    item = batch(2, b'{"decision":"%b","index":9,"size":12}' % whole)
    log = log_of(first, item)
    (said,) = judge(
        log, *(log.receipt(one, "context/annotations") for one in (first, item))
    )
    assert said.endswith(f"the batch of decision {whole.decode()} has two sizes")


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{",
        b'{"auditlog.batch":[]}',
        b'{"auditlog.batch":{"size":"8"}}',
        b'{"auditlog.batch":{"size":8,"decision":7,"index":0}}',
    ],
)
def test_annotations_of_another_shape_say_nothing(judge: Judge, text: bytes) -> None:
    decisions = [make_decision(n, context={"annotations": text}) for n in (1, 2)]
    log = log_of(*decisions)
    assert (
        judge(log, *(log.receipt(one, "context/annotations") for one in decisions))
        == []
    )


# --- two entries where there can be one -----------------------------------------------


def test_two_decisions_with_one_number(judge: Judge) -> None:
    """One call, logged twice: approved for one party, refused for the other."""
    one = make_decision(1)
    other = make_decision(2, response=b'{"decision":"refuse"}', data={"sequence": 1})
    log = log_of(one, other)
    (said,) = judge(log, log.receipt(one), log.receipt(other))
    assert said == (
        f"0.receipt.json and 1.receipt.json: evidence of fraud: the log {ORIGIN} holds "
        "two decisions with the number 1 of one process, which gives each number once"
    )
    process = base64.b64encode(bytes([1] * 16)).decode()
    elsewhere = make_decision(3, data={"sequence": 1, "emitter": process})
    log = log_of(one, elsewhere)
    assert judge(log, log.receipt(one), log.receipt(elsewhere)) == []


def test_two_entries_with_one_id(judge: Judge) -> None:
    one = make_decision(1)
    other = make_decision(1, response=b'{"decision":"refuse"}', data={"sequence": 2})
    log = log_of(one, other)
    (said,) = judge(log, log.receipt(one), log.receipt(other))
    assert said.endswith(f"holds two entries with id {format_id(make_id(1))}")


def erasure(number: int, key: str, person: str) -> Decision:
    """Return an erasure of a key that is shown to a person as theirs."""
    subject = b'{"id":"%b","kind":"person"}' % person.encode()
    made = make_decision(number, b"", b"", context={"subject": subject})
    entry = parse_entry(made.entry)
    kept = {name: entry.data[name] for name in ("commitment", "request", "response")}
    data = kept | {"key": key, "state": "shredded"}
    said = replace(entry, type="auditlog.erasure.v1", data=data)
    return replace(made, entry=format_entry(said))


def test_one_erased_key_that_two_persons_are_told_was_theirs(judge: Judge) -> None:
    """The operator erases once, and appeases whoever asks."""
    ada, bob = erasure(1, "k1", "ada"), erasure(2, "k1", "bob")
    other, again = erasure(3, "k2", "bob"), erasure(4, "k1", "ada")
    log = log_of(ada, bob, other, again)
    shows = [log.receipt(one, "context/subject") for one in (ada, bob, other, again)]
    (said,) = judge(log, *shows[:2])
    assert said.endswith("two persons were told that one key was theirs")
    # After a restore a key is erased once more.
    assert judge(log, shows[0], *shows[2:]) == []


def amendment(number: int, kind: str, about: Decision) -> bytes:
    about_id = format_id(make_id(about_number(about)))
    data = {"decision": about_id, "kind": kind}
    return format_entry(
        Entry(make_id(number), "auditlog.amendment.v1", ORIGIN, TIME + number, data)
    )


def about_number(decision: Decision) -> int:
    return next(n for n in range(9) if format_id(make_id(n)).encode() in decision.entry)


def test_an_amendment_that_was_told_to_two_parties_in_two_ways(judge: Judge) -> None:
    decision = make_decision()
    told = [amendment(50, kind, decision) for kind in ("override", "appeal")]
    log = MemoryLog(entries=[decision.entry, *told])
    receipts = []
    for entry in told:
        proof = log.proof(log.entries.index(entry))
        related = (Related("amendment", entry, proof),)
        receipts.append(log.receipt(decision, related=related))
    (said,) = judge(log, *receipts)
    assert said.endswith(f"holds two entries with id {format_id(make_id(50))}")


def test_an_amendment_that_stands_where_somebody_else_was_shown_another(
    judge: Judge,
) -> None:
    decision = make_decision()
    logs = [
        MemoryLog(entries=[decision.entry, amendment(50 + n, "appeal", decision), b"x"])
        for n in range(2)
    ]
    logs[1].add(b"y")
    receipts = []
    for log in logs:
        related = (Related("amendment", log.entries[1], log.proof(1)),)
        receipts.append(log.receipt(decision, size=1, related=related))
    (said,) = judge(logs[0], *receipts)
    assert said.endswith("has forked: it signed two entries with index 1")


# --- as the verifier says it ----------------------------------------------------------


def test_a_tlog_proof_is_compared_by_its_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = make_decision()
    log = log_of(decision)
    (tmp_path / "policy").write_text(log.policy())
    (tmp_path / "entry").write_bytes(decision.entry)
    for name in ("a", "b"):
        (tmp_path / f"{name}.tlog-proof").write_bytes(log.proof(1))
    files = [str(tmp_path / f"{name}.tlog-proof") for name in ("a", "b")]
    more = ["--policy", str(tmp_path / "policy"), "--entry", str(tmp_path / "entry")]
    assert main([*files, *more]) == 0
    assert "2 of 2 files verified\n" in capsys.readouterr().out


def test_one_receipt_given_twice_contradicts_nothing(judge: Judge) -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision, "request", "request/age")
    loose = format_receipt(parse_receipt(data))
    assert judge(log, data, loose, data) == []


def test_chunks_are_those_of_the_large_body() -> None:
    assert chunks("response", LARGE) == cut("response", "chunks", LARGE)
