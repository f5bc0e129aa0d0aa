"""The command line: `auditlog model digest`, and what `show` says of a model."""

import json
from hashlib import sha256
from pathlib import Path

from auditlog.core.record import format_id
from auditlog.log.model_entry import model_entry_id
from auditlog.models.identity import Model
from tests.command import auditlog
from tests.filled import fill_log


def test_digest_prints_what_the_log_would_say(tmp_path: Path) -> None:
    path = tmp_path / "credit.joblib"
    path.write_bytes(b"\x80\x04N.")
    done = auditlog("model", "digest", path)
    digest = f"sha256:{sha256(path.read_bytes()).hexdigest()}"
    assert done.status == 0
    assert done.out.splitlines()[:2] == [
        f"digest           {digest}",
        "name             credit.joblib",
    ]
    assert "format           joblib\n" in done.out
    machine = json.loads(auditlog("model", "digest", path, "--json").out)
    assert machine == {
        "ok": True,
        "name": "credit.joblib",
        "version": None,
        "digest": digest,
        "details": dict(Model.from_path(path).details),
    }


def test_digest_refuses_by_status(tmp_path: Path) -> None:
    done = auditlog("model", "digest", tmp_path / "nowhere")
    assert (done.status, done.err) == (
        11,
        f"auditlog: error: no model at {tmp_path}/nowhere\n",
    )
    (tmp_path / "link").symlink_to("/etc")
    done = auditlog("model", "digest", tmp_path)
    assert done.status == 2
    assert "but link is a link that leads out of the model" in done.err
    assert auditlog("model", "digest").status == 2


def test_show_names_the_entry_of_the_model(tmp_path: Path) -> None:
    (id_,) = fill_log(tmp_path / "audit", 1)
    entry = format_id(model_entry_id(Model("credit", "3")))
    shown = auditlog("show", id_, "--dir", tmp_path / "audit")
    assert f"model entry  {entry} of 20" in shown.out
    machine = json.loads(
        auditlog("show", id_, "--dir", tmp_path / "audit", "--json").out
    )
    assert machine["ranOn"]["id"] == entry == machine["data"]["model.entry"]
    told = json.loads(
        auditlog("show", entry, "--dir", tmp_path / "audit", "--json").out
    )
    assert told["data"] == {"model.name": "credit", "model.version": "3"}


def test_show_of_that_entry_says_which_model_it_is_about(tmp_path: Path) -> None:
    fill_log(tmp_path / "audit", 1)
    entry = format_id(model_entry_id(Model("credit", "3")))
    shown = auditlog("show", entry, "--dir", tmp_path / "audit")
    facts = dict(line.split(None, 1) for line in shown.out.splitlines())
    assert (facts["model"], facts["version"]) == ("credit", "3")
