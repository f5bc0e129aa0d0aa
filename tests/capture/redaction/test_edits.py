"""What was changed in the whole, told of each fragment."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.capture.redaction.edits import Edit, applied, changes, merged, spread
from auditlog.capture.redaction.rules import REDACTED

TEXTS = st.text('ab "[]red', max_size=12)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("same", "same", []),
        ("x SECRET y", f"x {REDACTED} y", [Edit(2, 8, REDACTED)]),
        (
            "a S b T c",
            f"a {REDACTED} b {REDACTED} c",
            [Edit(2, 3, REDACTED), Edit(6, 7, REDACTED)],
        ),
        ('{"n": 12}', '{"n": "[redacted]"}', [Edit(6, 8, '"[redacted]"')]),
        # Where there is no mask, words tell.
        ("pay Ann and Bob", "pay P1 and P2", [Edit(4, 7, "P1"), Edit(12, 15, "P2")]),
        ("gone", "", [Edit(0, 4, "")]),
        ("", "new", [Edit(0, 0, "new")]),
    ],
)
def test_a_change_is_told_where_it_is(
    before: str, after: str, expected: list[Edit]
) -> None:
    assert changes(before, after) == expected


def test_of_long_texts_all_between_the_first_and_the_last_change_is_one() -> None:
    middle = " word" * 2000
    (edit,) = changes(f"keep Ann{middle} Bob end", f"keep P1{middle} P2 end")
    assert (edit.start, edit.text) == (5, f"P1{middle} P2")


@given(before=TEXTS, after=TEXTS)
@settings(max_examples=300)
def test_changes_make_the_one_of_the_other(before: str, after: str) -> None:
    found = changes(before, after)
    assert applied(before, found) == after
    assert all(one.end <= other.start for one, other in pairwise(found))


@given(before=TEXTS, after=TEXTS, cuts=st.lists(st.integers(0, 12), max_size=5))
@settings(max_examples=300)
def test_fragments_joined_are_what_was_made_of_the_whole(
    before: str, after: str, cuts: list[int]
) -> None:
    bounds = [0, *sorted(min(cut, len(before)) for cut in cuts), len(before)]
    fragments = [before[one:end] for one, end in pairwise(bounds)]
    edits = spread(fragments, changes(before, after))
    parts = [applied(*one) for one in zip(fragments, edits, strict=True)]
    assert "".join(parts) == after


def test_what_takes_the_place_of_a_part_stands_where_it_began() -> None:
    found = spread(["ab", "cd", "ef"], [Edit(1, 5, "X")])
    assert found == [[Edit(1, 2, "X")], [Edit(0, 2, "")], [Edit(0, 1, "")]]


EDITS = st.builds(
    lambda start, size, text: Edit(start, start + size, text),
    st.integers(0, 8),
    st.integers(0, 4),
    st.sampled_from(["", REDACTED, "X"]),
)


@given(edits=st.lists(EDITS, max_size=6))
@settings(max_examples=300)
def test_all_that_any_rule_takes_out_goes(edits: list[Edit]) -> None:
    found = merged(edits)
    assert all(one.end <= other.start for one, other in pairwise(found))
    gone = {at for edit in edits for at in range(edit.start, edit.end)}
    assert gone <= {at for edit in found for at in range(edit.start, edit.end)}
