"""What stands first in an archive of what is held on a person, for that person."""

__all__ = ["readme"]


def readme(
    origin: str,
    *,
    decisions: int,
    pending: int,
    partly: int,
    unreadable: int,
    receipts: int,
) -> str:
    """Return the text of ``README.txt``.

    Args:
        origin: the log's name.
        decisions: how many are in the archive.
        pending: how many of them, or beside them, cannot be proven yet.
        partly: of how many a part is not in it.
        unreadable: how many entries are damaged, decisions or what was said of them.
        receipts: how many are in it.
    """
    notes = [
        (partly, "decision", "a part is missing; index.json says which, and why"),
        (pending, "decision", "no signed state covers it yet; ask again for a receipt"),
        (
            unreadable,
            "record",
            "what is stored is damaged; the operator owes it to you",
        ),
    ]
    told = [f"  - of {_count(n, what)} {why}\n" for n, what, why in notes if n]
    return _TEXT.format(
        origin=origin,
        decisions=_count(decisions, "decision"),
        receipts=_count(receipts, "receipt"),
        notes="".join(told),
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


_TEXT = """\
What is held on you in the log {origin}
{decisions}, {receipts}

Begin with index.json, which lists every decision. Each has a file in decisions/: what
was asked and answered, by which model, what was said of it, and what happened later:
corrections, reviews, and to whom any of it was shown. They are JSON, which any editor
shows and any program reads.

HOW TO CHECK IT

Each file in receipts/ is a proof that this entry stands in the log as it is here and
was not changed since. Nobody has to be believed or asked for that:

    auditlog verify --policy policy receipts/*.receipt.json

or, with nothing but Python and its package cryptography,

    python verify_receipt.pyz --policy policy receipts/*.receipt.json

The file policy names the public keys of the log and its witnesses. It comes from the
operator, as all of this does: compare it with what they have published, or with what
somebody whom you trust has of them. Whoever has a receipt can open what is opened in
it: give it away as you would give away what it says.

WHAT IS NOT IN IT

{notes}\
  - what was left out before it was stored (redacted), or only its first part kept
  - what was erased: nobody can read it any more, nor tell that it was about you
  - data of others that came in one body with yours; what stands at your own place in
    it is opened where the place can be told
  - names of the people who work for the operator and looked at it, or said something
    of it later; to whom it was given stands beside each decision
  - decisions during which nobody told the log that they were about you
  - decisions that were still being made when this archive was
"""
