"""Whether a chain can be had on a machine, and what is said where it cannot."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo_service import chain


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found, empty; with what they need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_node_it_is_said(programs: Path) -> None:
    assert chain.npm_ci(programs.parent) == "it needs node and npm (Node.js)"
    add(programs, "node")
    assert chain.npm_ci(programs.parent) == "it needs npm (Node.js)"


def test_what_npm_complains_about_is_one_plain_line(programs: Path) -> None:
    add(programs, "node")
    add(programs, "npm", "printf 'npm error \\033[31mEAI_AGAIN\\nnpm ü\\n' >&2; exit 1")
    said = chain.npm_ci(programs.parent)
    assert said == "npm ci failed: npm error [31mEAI_AGAIN npm ?"
    assert not (programs.parent / "node_modules").exists()


def test_an_npm_without_an_end_is_not_waited_for(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_SECONDS", 0.2)
    add(programs, "node")
    add(programs, "npm", "while :; do :; done")
    assert chain.npm_ci(programs.parent) == "npm ci was not done after 0.2 s"


def test_elsewhere_than_on_linux_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert chain.install() == "anvil comes from npm for Linux on x86-64"


class Rpc(BaseHTTPRequestHandler):
    """A node that knows its number, and nothing else."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = asked["method"] == "eth_chainId"
        said = {"result": hex(chain.CHAIN_ID)} if known else {"error": "unknown"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_no_proxy_is_asked_for_a_node_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ThreadingHTTPServer(("127.0.0.1", 0), Rpc) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        node = chain.Node(f"http://127.0.0.1:{server.server_port}")
        assert node.answers()
        with pytest.raises(OSError, match="eth_blockNumber: unknown"):
            node.number()
        server.shutdown()
        thread.join()
