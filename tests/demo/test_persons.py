"""What the demo's data-protection officer does is what the product does."""

import zipfile
from pathlib import Path

import pytest

from auditlog.core.errors import NotFoundError
from demo_service.deployment import Deployment
from demo_service.persons import export, forget, nothing_opens
from demo_service.processes import DemoError
from tests.people import ADA, BOB, People


@pytest.fixture
def made(tmp_path: Path) -> tuple[Deployment, str]:
    people = People(tmp_path / "log")
    id_ = people.record(ADA)
    people.record(BOB)
    people.checkpoint()
    people.log.close()
    return Deployment(tmp_path, "", "", (), (), ""), id_


def test_an_archive_has_the_receipts_of_one_person(
    made: tuple[Deployment, str], tmp_path: Path
) -> None:
    deployment, id_ = made
    archive = export(deployment, ADA, tmp_path / "ada.zip")
    assert list(archive.receipts()) == [f"{id_}.receipt.json"]
    assert archive.done.decisions == 1
    assert BOB.encode() not in archive.every_byte()
    assert zipfile.is_zipfile(archive.path)


def test_who_is_forgotten_opens_no_more_and_is_found_no_more(
    made: tuple[Deployment, str], tmp_path: Path
) -> None:
    deployment, id_ = made
    with pytest.raises(DemoError, match="content that was erased opens"):
        nothing_opens(deployment, id_)
    assert forget(deployment, ADA).records == 1
    assert "was erased" in nothing_opens(deployment, id_)
    with pytest.raises(NotFoundError):
        export(deployment, ADA, tmp_path / "ada.zip")
