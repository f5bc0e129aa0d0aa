"""What tests of anchors share."""

import pytest

from auditlog.anchors import checking
from tests.anchors import stamps


@pytest.fixture
def stamps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `stamps.KIND` be checked by what `tests.anchors.stamps` makes."""
    monkeypatch.setitem(checking.KINDS, stamps.KIND, stamps.check)
    monkeypatch.delitem(checking.TABLES, stamps.KIND)  # a root is a secret there
