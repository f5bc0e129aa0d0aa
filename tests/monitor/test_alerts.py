"""Who is told, how often, and what is never told."""

import json
import os
import stat
from pathlib import Path

import pytest

from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.monitor.alerts import Gauge, Webhook, write_metrics
from tests.monitor.tiled import Answer, Site, TiledLog, look, served

LOG = TiledLog([b"entry %d" % i for i in range(40)])
POLICY = LOG.policy()


def test_each_finding_is_posted_once_and_again_when_it_comes_back(
    tmp_path: Path,
) -> None:
    site, hook = Site(), Site()
    with served(site) as url, served(hook) as told:
        for shown in (True, False, False, True, False):
            site.files = LOG.files(20) if shown else {}
            look(tmp_path / "m", url, policy=POLICY, webhook=f"{told}/hook")
    kinds = [json.loads(body)["kind"] for body in hook.posted]
    assert kinds == ["unchecked", "unchecked"]


def test_what_is_posted(tmp_path: Path) -> None:
    site, hook = Site(), Site()
    with served(site) as url, served(hook) as told:
        site.show(LOG, 20)
        look(tmp_path / "m", url, policy=POLICY, webhook=told)
        assert hook.posted == []
        site.show(LOG.rewritten(3), 30)
        look(tmp_path / "m", url, policy=POLICY, webhook=told, token="alt_secret")
    (body,) = hook.posted
    posted = json.loads(body)
    (file,) = (tmp_path / "m").glob("fork-*.json")
    text = posted.pop("text")
    assert text.startswith(f"{LOG.origin}: FORK: {LOG.origin} signed two histories")
    assert posted == {
        "exit": 10,
        "file": file.name,
        "kind": "fork",
        "origin": LOG.origin,
        "schema": "auditlog.alert.v1",
        "subject": file.name,
        "time": "2027-01-15T08:00:00.000000Z",
    }
    assert b"alt_secret" not in body


def test_the_proof_is_on_disk_before_anybody_is_told(tmp_path: Path) -> None:
    site, hook = Site(), Site()
    seen: list[int] = []

    def respond(_: str) -> None:
        seen.append(len([*(tmp_path / "m").glob("fork-*.json")]))

    hook.respond = respond
    with served(site) as url, served(hook) as told:
        for log in (LOG, LOG.rewritten(3)):
            site.show(log, 20)
            look(tmp_path / "m", url, policy=POLICY, webhook=told)
    assert seen == [1]


def test_a_webhook_that_is_down_is_told_later(tmp_path: Path) -> None:
    site, hook = Site(), Site()
    hook.respond = lambda _: Answer(b"", 500)
    with served(site) as url, served(hook) as told:
        done = look(tmp_path / "m", url, policy=POLICY, webhook=told)
        assert (done.status, done.untold) == (1, 1)
        hook.posted.clear()
        hook.respond = lambda _: None
        done = look(tmp_path / "m", url, policy=POLICY, webhook=told)
        assert (done.status, done.untold) == (1, 0)
        assert len(hook.posted) == 1


def test_a_webhook_that_takes_its_time_keeps_neither_the_watch_nor_a_stop() -> None:
    hook = Site()
    hook.respond = lambda _: Answer(b"taken", delay=0.2)
    with served(hook) as told:
        alerts = [{"text": f"{number}"} for number in range(100)]
        count = Webhook(told, patience=0.3).tell(alerts)
        assert 1 <= count <= 3
        assert len(hook.posted) == count
        stopping = Webhook(told, stopped=lambda: len(hook.posted) > count)
        assert stopping.tell(alerts) == 1


def test_alerts_that_nobody_takes_are_bounded_and_forks_stay(tmp_path: Path) -> None:
    site, hook = Site(), Site()
    hook.respond = lambda _: Answer(b"", 500)
    with served(site) as url, served(hook) as told:
        for log in (LOG, LOG.rewritten(3)):
            site.show(log, 20)
            look(tmp_path / "m", url, policy=POLICY, webhook=told)
        state = tmp_path / "m" / "state.json"
        kept = json.loads(state.read_text())
        noise = dict(kept["outbox"][0], kind="unchecked", exit=1)
        kept["outbox"] = [noise] * 400 + kept["outbox"]
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        state.write_text(text)
        done = look(tmp_path / "m", url, policy=POLICY, webhook=told)
        assert done.untold == 256
        assert json.loads(state.read_text())["outbox"][0]["kind"] == "fork"


@pytest.mark.parametrize("url", ["ftp://x", "https://u:secret@h/", "https://h/?secret"])
def test_an_address_that_is_none_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL without user or query") as error:
        Webhook(url)
    assert url not in str(error.value)
    assert "secret" not in str(error.value)


def test_an_address_that_nobody_answers_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(Site()) as gone:
        pass
    with served(Site()) as url:
        done = look(tmp_path / "m", url, policy=POLICY, webhook=f"{gone}/secret")
    assert done.untold == 1
    shown = str(done) + str(capsys.readouterr())
    written = (tmp_path / "m" / "state.json").read_text()
    assert "secret" not in shown + written


def test_its_address_stands_in_no_error() -> None:
    hook = Site()
    hook.respond = lambda _: Answer(b"", 500)
    with served(hook) as told:
        webhook = Webhook(f"{told}/secret")
        with pytest.raises(MalformedError, match="the webhook answers 500"):
            webhook._post({})
    with pytest.raises(AuditLogError, match="cannot reach the webhook: "):
        webhook._post({})


def test_metrics_are_written_whole_and_readable_by_others(tmp_path: Path) -> None:
    file = tmp_path / "log.prom"
    os.umask(os.umask(0o077))
    labels = (("origin", 'a"b\\c\nd'),)
    write_metrics(file, [Gauge("status", 10, labels), Gauge("status", 0.5)])
    assert file.read_text() == (
        "# TYPE auditlog_monitor_status gauge\n"
        'auditlog_monitor_status{origin="a\\"b\\\\c\\nd"} 10\n'
        "auditlog_monitor_status{} 0.5\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [*tmp_path.iterdir()] == [file]
