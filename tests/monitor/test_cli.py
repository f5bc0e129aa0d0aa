"""The command monitor, over real sockets, beside real logs and dishonest operators."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditlog import build_verifier
from auditlog.cli import main
from auditlog.core.checkpoint import parse_policy
from auditlog.monitor.fork import verify_fork
from demo_service.dishonest_operator import copy_log, rebuild_without
from tests.command import auditlog, environment, started
from tests.e2e.processes import wait_until
from tests.filled import ORIGIN, decision_at, fill_log
from tests.monitor.tiled import Answer, Key, Site, TiledLog, served

ROOT = Path(__file__).parents[2]
LOG = TiledLog([b"entry %d" % i for i in range(1000)])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory, 6)
    return directory


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy that believes the log of strangers."""
    path = tmp_path / "policy"
    path.write_text(LOG.policy())
    return path


def token_of(log: Path, where: Path) -> Path:
    made = auditlog("token", "create", "--role", "auditor", "--dir", log)
    file = where / "token"
    file.touch(0o600)
    file.write_text(made.out)
    return file


@contextmanager
def watching(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a monitor that stays; it is killed in the end if it still runs."""
    command = [sys.executable, "-m", "auditlog", "monitor", *map(str, arguments)]
    env = environment(PYTHONPATH=str(ROOT))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_log_of_ours_and_its_entries(log: Path, tmp_path: Path) -> None:
    token = token_of(log, tmp_path)
    common = ["--policy", log / "policy", "--once"]
    with started("serve", "--dir", log) as running:
        plain = auditlog("monitor", running.url, *common, "--dir", tmp_path / "a")
        assert (plain.status, plain.err) == (0, "")
        assert f"{ORIGIN}: 10 entries under root " in plain.out
        assert "tiles (not the entries) rebuilt" in plain.out
        read = auditlog(
            *("monitor", running.url, *common, "--dir", tmp_path / "b", "--json"),
            *("--token-file", token, "--max-silence", "3600"),
        )
        env = {"AUDITLOG_TOKEN": token.read_text()}
        again = auditlog(
            "monitor", running.url, *common, "--dir", tmp_path / "b", env=env
        )
        assert (again.status, "entries and tiles rebuilt" in again.out) == (0, True)
    document = read.document()
    assert (read.status, document["ok"], document["entries"]) == (0, True, True)
    assert (document["size"], document["foreign"]) == (10, 0)
    assert read.out.count("\n") == 1


def test_a_rebuilt_log_under_the_real_keys_is_proven_a_fork(
    log: Path, tmp_path: Path
) -> None:
    """The operator has every key; two views of him are enough."""
    copy = copy_log(log, tmp_path / "copy")
    rebuild_without(copy, decision_at(copy, 2))
    common = ["--policy", log / "policy", "--dir", tmp_path / "m", "--once"]
    with started("serve", "--dir", log) as one, started("serve", "--dir", copy) as two:
        done = auditlog("monitor", one.url, *common, "--vantage", two.url)
        assert done.status == 10
        # Somebody who followed the honest view meets the other one.
        later = auditlog("monitor", two.url, *common)
        assert later.status == 10
    assert f"fork: FORK: {ORIGIN} signed two histories" in done.out
    assert "10 entries under root" in later.out
    files = [*(tmp_path / "m").glob("fork-*.json")]
    assert files
    (tmp_path / "elsewhere").mkdir()
    alone = tmp_path / "elsewhere" / "fork.json"
    alone.write_bytes(files[0].read_bytes())
    verdict = verify_fork(
        alone.read_bytes(), parse_policy((log / "policy").read_text())
    )
    types = {signature.verifier.type for signature in verdict.a.log_signatures}
    assert types == {0x01, 0x06}, "signed with Ed25519 and ML-DSA-44, both times"
    assert_convinces_a_stranger(alone, log / "policy")


def assert_convinces_a_stranger(fork: Path, policy: Path) -> None:
    """Verify a fork by the one file of the verifier, where nothing else is."""
    build_verifier.build(fork.parent / "verify_receipt.pyz")
    (fork.parent / "policy").write_bytes(policy.read_bytes())
    (fork.parent / "other").write_text(LOG.policy())
    for name, status, words in (
        ("policy", 0, "FORK PROVEN: the log signed two histories"),
        ("other", 13, "NOT TRUSTED"),
    ):
        done = subprocess.run(
            [sys.executable, "-I", "verify_receipt.pyz", fork.name, "--policy", name],
            cwd=fork.parent,
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert words in done.stdout


def test_its_variables_disturb_no_other_command(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_TOKEN", "alt_1")
    monkeypatch.setenv("AUDITLOG_WEBHOOK", "https://hooks.example/secret")
    assert main(["token", "list", "--dir", str(log)]) == 0
    assert "secret" not in str(capsys.readouterr())


def test_a_webhook_may_come_from_the_environment(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Site()
    common = ["--policy", str(policy), "--dir", str(tmp_path / "m"), "--once"]
    with served(Site()) as url, served(hook) as told:
        monkeypatch.setenv("AUDITLOG_WEBHOOK", told)
        assert main(["monitor", url, *common]) == 1
    assert [json.loads(body)["kind"] for body in hook.posted] == ["unchecked"]


def test_it_stays_until_it_is_told_to_stop(policy: Path, tmp_path: Path) -> None:
    site, metrics = Site(), tmp_path / "log.prom"
    site.show(LOG, 300)
    common = ["--policy", policy, "--dir", tmp_path / "m"]
    with (
        served(site) as url,
        watching(
            *(url, *common, "--interval", "1", "--json", "--metrics", metrics),
            *("--vantage", url),
        ) as process,
    ):
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["ok"], first["size"]) == (True, 300)
        other = auditlog("monitor", url, *common, "--once")
        assert other.status == 1
        assert "still locked by another process" in other.err
        site.show(LOG, 700)
        while json.loads(process.stdout.readline())["size"] != 700:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.communicate()[1]
    lines = metrics.read_text().splitlines()
    labels = f'origin="{LOG.origin}"'
    assert f"auditlog_monitor_verified_size{{{labels}}} 700" in lines
    assert f'auditlog_monitor_findings{{{labels},kind="fork"}} 0' in lines
    assert f'auditlog_monitor_vantage_size{{{labels},vantage="{url}"}} 700' in lines


def test_a_fork_is_its_end_too(policy: Path, tmp_path: Path) -> None:
    site, hook = Site(), Site()
    site.show(LOG, 300)
    with (
        served(site) as url,
        served(hook) as told,
        watching(
            *(url, "--policy", policy, "--dir", tmp_path / "m", "--interval", "1"),
            *("--webhook", told),
        ) as process,
    ):
        wait_until((tmp_path / "m" / "state.json").exists, 20, "a round")
        site.show(LOG.rewritten(3), 400)
        wait_until(lambda: bool(hook.posted), 20, "an alert")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 10
    assert [json.loads(body)["kind"] for body in hook.posted] == ["fork"]


def test_it_stops_while_a_server_keeps_it_waiting(policy: Path, tmp_path: Path) -> None:
    site = Site()
    site.show(LOG, 1000)
    site.respond = lambda path: (
        Answer(bytes(8192), delay=60) if path.startswith("tile/0") else None
    )
    slow = ["--timeout", "2", "--interval", "1"]
    with (
        served(site) as url,
        watching(*(url, "--policy", policy, "--dir", tmp_path / "m", *slow)) as process,
    ):
        wait_until(lambda: len(site.requests) > 1, 20, "a tile")
        process.send_signal(signal.SIGTERM)
        asked = len(site.requests)
        assert process.wait(20) == 0
    # What is under way ends in time; nothing more is asked for.
    assert len(site.requests) <= asked + 4


@pytest.mark.parametrize("shown", ["grown", "forked"])
def test_a_kill_at_any_step_costs_nothing(
    policy: Path, tmp_path: Path, shown: str
) -> None:
    site, directory = Site(), tmp_path / "m"
    liar = LOG.rewritten(3)
    common = ["--policy", policy, "--dir", directory, "--once"]
    with served(site) as url:
        site.show(LOG, 300)
        assert auditlog("monitor", url, *common).status == 0
        if shown == "grown":
            site.show(LOG, 1000)
        else:
            site.show(liar, 1000)
        command = [sys.executable, "-m", "tests.monitor.killed", url, policy, directory]
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert len(lines) > 8, lines
    expected = "0 1000 -" if shown == "grown" else "10 300 fork"
    assert set(lines) == {expected}


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arguments are required: --dir, URL, --policy"),
            (["u", "--dir", "d"], "arguments are required: --policy"),
            (["u", "--dir", "d", "--policy", "p", "--once", "--interval", "3"], "not"),
            (["u", "--dir", "d", "--policy", "p", "--interval", "0"], "from 1 to"),
            (["u", "--dir", "d", "--policy", "p", "--start", "x"], "from 0 to"),
        ],
    )
    def test_usage(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as leaving:
            main(["monitor", *arguments])
        assert leaving.value.code == 2
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("change", "status", "message"),
        [
            ({"--policy": "nowhere"}, 1, "cannot read nowhere: No such file"),
            ({"url": "ftp://x"}, 2, "expected an http or https URL"),
            ({"--vantage": "x"}, 2, "expected an http or https URL"),
            ({"--webhook": "x?y"}, 2, "without user or query as webhook"),
            ({"--token-file": "nowhere"}, 2, "no key file at nowhere"),
            ({"--token-file": "empty"}, 2, "a token of visible ASCII, got none"),
            ({"--token-file": "two lines"}, 2, "a token of visible ASCII"),
            ({"--token-file": "readable"}, 2, "chmod 600"),
            ({"--policy": "two logs"}, 2, "names 2 logs: say which with --origin"),
            ({"--policy": "none"}, 16, "expected a quorum line in the policy"),
            ({"--policy": "bytes"}, 16, "expected a policy in UTF-8"),
        ],
        ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
    )
    def test_what_it_is_given(
        self,
        policy: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        change: dict[str, str],
        status: int,
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        other = Key("other.example/log", seed=b"o" * 32)
        files = {
            "empty": b"\n",
            "two lines": b"alt_secret\nalt_more",
            "readable": b"alt_secret",
            "two logs": f"log {other.vkey}\n{LOG.policy()}".encode(),
            "none": b"",
            "bytes": b"\xff",
        }
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
            (tmp_path / name).chmod(0o644 if name == "readable" else 0o600)
        given = {"url": "http://127.0.0.1:1", "--policy": str(policy)} | change
        url = given.pop("url")
        options = [part for pair in given.items() for part in pair]
        assert main(["monitor", url, *options, "--dir", "m", "--once"]) == status
        shown = capsys.readouterr()
        assert message in shown.err
        assert "alt_secret" not in shown.out + shown.err

    def test_nobody_is_there(self, policy: Path, tmp_path: Path) -> None:
        with served(Site()) as url:
            pass
        done = auditlog(
            *("monitor", url, "--policy", policy, "--dir", tmp_path / "m", "--once")
        )
        assert done.status == 1
        assert "unchecked: " in done.out
        assert "nothing verified yet" in done.out
