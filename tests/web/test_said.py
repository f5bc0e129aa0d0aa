"""What handlers say about a decision, from wherever they say it, reaches its entry."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

import auditlog
from auditlog.core.errors import AuditLogError, NotFoundError, StorageError
from auditlog.core.record import parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.content import verify_content
from auditlog.log.decision import Decision
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.models.identity import Model
from auditlog.web.asgi import App, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import START, Server, body, call, chunk, http_scope, script
from tests.web.fake_runtime import FakeRuntime, Seen
from tests.web.test_middleware_apps import Placement, ask, client, pass_on


def leaves(seen: Seen) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in seen.exchange.context.items()}


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def say(decision: Decision, who: str) -> None:
    decision.set_result(label=who, score=0.5)
    decision.set_subject("c-1")


def depends_sync() -> None:
    say(auditlog.current(), "dependency")


Given = Annotated[Decision, Depends(auditlog.get_decision)]


def build() -> FastAPI:  # noqa: C901 - a list of endpoints
    """Return an application that speaks from one place on each of its routes."""
    app = FastAPI()

    @app.post("/async")
    async def async_() -> str:
        say(auditlog.current(), "async")
        return "ok"

    @app.post("/sync")
    def sync() -> str:
        say(auditlog.current(), "sync")
        return "ok"

    @app.post("/given-async")
    async def given_async(decision: Given) -> str:
        say(decision, "given-async")
        return decision.id

    @app.post("/given-sync")
    def given_sync(decision: Given) -> str:
        say(decision, "given-sync")
        return decision.id

    @app.post("/dependency", dependencies=[Depends(depends_sync)])
    async def dependency() -> str:
        return "ok"

    @app.post("/scope")
    async def scope(request: Request) -> str:
        say(request.scope["auditlog.decision"], "scope")
        return "ok"

    @app.post("/task")
    async def task() -> str:
        async def inner() -> None:
            say(auditlog.current(), "task")

        await asyncio.create_task(inner())
        return "ok"

    @app.post("/thread")
    async def thread(decision: Given) -> str:
        worker = threading.Thread(target=say, args=(decision, "thread"))
        worker.start()
        await asyncio.to_thread(worker.join)
        return "ok"

    @app.post("/stream")
    async def stream(decision: Given) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            say(decision, "stream")
            yield b"b"

        return StreamingResponse(parts())

    return app


def add(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    app.add_middleware(AuditMiddleware, runtime=runtime)
    return app


def add_around_base(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return add(app, runtime)


def wrap(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    return AuditMiddleware(app, runtime=runtime, durability="sync")


@pytest.mark.parametrize("place", [add, add_around_base, wrap])
@pytest.mark.parametrize(
    "where",
    [
        *("async", "sync", "given-async", "given-sync", "dependency"),
        *("scope", "task", "thread", "stream"),
    ],
)
def test_wherever_it_is_said_it_counts(
    runtime: FakeRuntime, place: Placement, where: str
) -> None:
    answer = ask(place(build(), runtime), f"/{where}")
    assert answer.status_code == 200
    assert leaves(runtime.only()) == {
        "outcome": {"result": {"label": where, "score": "0.5"}},
        "subject": {"id": "c-1", "kind": "person"},
    }
    if where.startswith("given"):
        assert answer.json() == answer.headers["decision-id"]


def test_a_base_middleware_can_speak_too(runtime: FakeRuntime) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        auditlog.current().set_user("from the middleware")
        response: Response = await call_next(request)
        auditlog.current().annotate(seen=True)
        return response

    app = build()
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    ask(add(app, runtime), "/sync")
    found = leaves(runtime.only())
    assert found["user"] == {"caller": "from the middleware"}
    assert found["annotations"] == {"seen": True}
    assert found["outcome"]["result"]["label"] == "sync"


def test_what_is_said_after_the_answer_has_no_effect(runtime: FakeRuntime) -> None:
    late: list[bool] = []

    def later(decision: Decision) -> None:
        decision.set_result(label="late")
        decision.set_model("late")
        late.extend(one.recorded for one in decision.split(2))

    app = FastAPI()

    @app.post("/x")
    def handler(decision: Given, tasks: BackgroundTasks) -> str:
        decision.set_result(label="in time")
        tasks.add_task(later, decision)
        return "ok"

    assert ask(add(app, runtime), "/x").status_code == 200
    exchange = runtime.only().exchange
    assert exchange.context == {"outcome": b'{"result":{"label":"in time"}}'}
    assert exchange.model is None
    assert late == [True, False]


def test_a_mistake_in_a_handler_is_its_own_error(runtime: FakeRuntime) -> None:
    app = FastAPI()

    @app.post("/x")
    def handler(decision: Given) -> str:
        decision.set_result(label="kept")
        decision.set_result(score=float("nan"))
        return "unreachable"

    assert ask(wrap(app, runtime), "/x").status_code == 500
    seen = runtime.only()
    assert seen.exchange.outcome == "error"
    assert leaves(seen) == {"outcome": {"result": {"label": "kept"}}}


def speaking(speak: Any, *, status: int = 200, then: Any = None) -> App:
    """Return an application that speaks and answers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        speak(scope["auditlog.decision"])
        start = {**START, "status": status}
        await script(start, body(b'{"y":1}'), read=False, then=then)(
            scope, receive, send
        )

    return app


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "skipped"), (404, "skipped"), (429, "skipped")]
)
def test_a_skipped_decision_has_an_entry_without_bodies(
    runtime: FakeRuntime, status: int, outcome: str
) -> None:
    app = speaking(lambda decision: decision.skip("a probe"), status=status)
    call(AuditMiddleware(app, runtime=runtime))
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.keep) == (outcome, False)
    assert exchange.context == {"outcome": b'{"skipped":"a probe"}'}


def test_what_went_wrong_is_not_hidden_by_skipping(runtime: FakeRuntime) -> None:
    app = speaking(lambda decision: decision.skip("a probe"), status=500)
    call(AuditMiddleware(app, runtime=runtime))
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.keep) == ("error", False)


@pytest.mark.parametrize("status", [401, 403, 422, 429])
@pytest.mark.parametrize("keep", [False, True])
def test_a_rejected_request_keeps_no_bodies_unless_asked_for(
    runtime: FakeRuntime, status: int, keep: bool
) -> None:
    app = script({**START, "status": status}, body(b"no"))
    call(AuditMiddleware(app, runtime=runtime, keep_rejected=keep))
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.keep) == ("rejected", keep)


def batch(runtime: FakeRuntime) -> list[Seen]:
    """Return the decisions of a batch in their order."""
    runtime.check()
    return sorted(runtime.seen, key=lambda one: one.exchange.sequence)


def split_in_three(decision: Decision) -> None:
    decision.set_session("s")
    for index, item in enumerate(decision.split(3)):
        item.set_result(label=f"row {index}")
    decision.set_model("m", version="1")


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_a_batch_is_one_decision_for_each_item(
    runtime: FakeRuntime, durability: Any
) -> None:
    app = AuditMiddleware(
        speaking(split_in_three), runtime=runtime, durability=durability
    )
    server = call(app, Server([chunk(b'{"rows":[1,2,3]}')]))
    seen = batch(runtime)
    assert len(seen) == 3
    ids = [Decision(one.exchange.id).id for one in seen]
    assert server.header(b"decision-id") == ids[0].encode()
    assert [leaves(one)["outcome"]["result"]["label"] for one in seen] == [
        *("row 0", "row 1", "row 2")
    ]
    assert [leaves(one)["annotations"]["auditlog.batch"] for one in seen] == [
        {"items": ids[1:], "size": 3},
        {"decision": ids[0], "index": 1, "size": 3},
        {"decision": ids[0], "index": 2, "size": 3},
    ]
    for one in seen:
        assert leaves(one)["session"] == {"id": "s"}
        assert one.exchange.model == Model("m", "1")
        assert (one.exchange.status, one.exchange.outcome) == (200, "completed")
        assert one.exchange.target == b"/score"
    assert (seen[0].request, seen[0].response) == (b'{"rows":[1,2,3]}', b'{"y":1}')
    assert seen[0].states == ("complete", "complete")
    for one in seen[1:]:
        assert (one.request, one.response) == (b"", b"")
        assert one.states == ("omitted", "omitted")
    assert len({one.exchange.secret for one in seen}) == 3


def boom(decision: Decision) -> None:
    split_in_three(decision)
    raise RuntimeError("half-way")


def test_a_batch_that_fails_half_way_has_an_entry_for_each_number(
    runtime: FakeRuntime,
) -> None:
    with pytest.raises(RuntimeError, match="half-way"):
        call(AuditMiddleware(speaking(boom), runtime=runtime))
    seen = batch(runtime)
    assert [one.exchange.outcome for one in seen] == ["error"] * 3
    assert leaves(seen[2])["outcome"] == {"result": {"label": "row 2"}}


def test_a_client_that_leaves_a_batch(runtime: FakeRuntime) -> None:
    def fail(message: Any) -> BaseException | None:
        return ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        call(
            AuditMiddleware(speaking(split_in_three), runtime=runtime),
            Server(fail_send=fail),
        )
    outcomes = [one.exchange.outcome for one in batch(runtime)]
    assert outcomes == ["client_disconnected"] * 3


def test_one_item_of_a_batch_can_be_skipped(runtime: FakeRuntime) -> None:
    def speak(decision: Decision) -> None:
        decision.split(3)[1].skip("a duplicate")

    call(AuditMiddleware(speaking(speak), runtime=runtime))
    seen = batch(runtime)
    assert [one.exchange.outcome for one in seen] == [
        *("completed", "skipped", "completed")
    ]


def test_a_batch_in_a_stream_that_has_begun(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"a", more=True))
        split_in_three(scope["auditlog.decision"])
        await send(body(b"b"))

    call(AuditMiddleware(app, runtime=runtime))
    assert len(batch(runtime)) == 3


def test_a_batch_that_is_numbered_in_part_is_admitted_and_harms_nobody(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    def speak(decision: Decision) -> None:
        runtime.open_error = ValueError("not even ours")
        assert len(decision.split(3)) == 3

    server = call(AuditMiddleware(speaking(speak), runtime=runtime))
    assert server.body() == b'{"y":1}'
    found = leaves(runtime.only())["annotations"]["auditlog.batch"]
    assert found == {"items": [], "size": 3}
    assert caplog.text.count("a batch is not recorded whole: ValueError at ") == 1


def test_under_closed_a_batch_that_is_not_numbered_stops_the_handler(
    runtime: FakeRuntime,
) -> None:
    def speak(decision: Decision) -> None:
        runtime.open_error = StorageError("disk full")
        decision.split(3)

    app = AuditMiddleware(speaking(speak), runtime=runtime, on_failure="closed")
    with pytest.raises(AuditLogError, match="disk full"):
        call(app)
    assert runtime.only().exchange.outcome == "error"


def test_under_sync_the_answer_waits_for_every_item() -> None:
    runtime = FakeRuntime(gated=True)

    async def main() -> Server:
        server = Server()
        app = AuditMiddleware(
            speaking(split_in_three),
            runtime=runtime,
            durability="sync",
            on_failure="closed",
        )
        task = asyncio.create_task(app(http_scope(), server.receive, server.send))
        while len(runtime.waiting) < 3:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
        waiting, runtime.waiting = runtime.waiting, []
        for number, on_accepted in enumerate(waiting):
            assert not task.done()
            error = StorageError("disk full") if number == 1 else None
            await asyncio.to_thread(on_accepted, error)
        with pytest.raises(AuditLogError, match="its answer is withheld"):
            await task
        return server

    assert asyncio.run(main()).types() == ["http.response.start"]
    runtime.check()


def test_an_item_that_cannot_be_submitted_keeps_no_other_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = FakeRuntime()
    runtime.submit_error = ValueError("not even ours")
    server = call(AuditMiddleware(speaking(split_in_three), runtime=runtime))
    assert server.body() == b'{"y":1}'
    assert len(batch(runtime)) == 3
    assert "is not recorded: ValueError at " in caplog.text


def test_a_fault_of_ours_at_the_end_loses_what_was_said_and_nothing_else(
    runtime: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("ours")

    monkeypatch.setattr("auditlog.web.opened.fill", broken)
    app = AuditMiddleware(speaking(lambda one: say(one, "x")), runtime=runtime)
    for _ in range(2):
        assert call(app).body() == b'{"y":1}'
    assert [one.exchange.outcome for one in runtime.seen] == ["completed"] * 2
    assert caplog.text.count("what was said about a decision is lost") == 1


def test_an_outer_installation_that_is_disabled_leaves_it_to_the_inner_one(
    runtime: FakeRuntime,
) -> None:
    inner = AuditMiddleware(speaking(lambda one: say(one, "x")), runtime=runtime)
    server = call(AuditMiddleware(inner, enabled=False))
    assert server.header(b"decision-id") is not None
    assert leaves(runtime.only())["outcome"]["result"]["label"] == "x"


def test_installed_by_environment_and_by_code_each_call_is_one_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_DIR", str(tmp_path / "audit"))
    monkeypatch.setenv("AUDITLOG_ORIGIN", "test.example/log")
    sub = FastAPI()
    sub.add_api_route("/score", lambda: auditlog.current().id, methods=["POST"])
    auditlog.install(sub, model="inner")
    app = FastAPI()
    app.mount("/sub", sub)
    auditlog.install(app, model="code")
    with client(AuditMiddleware(app)) as session:
        answers = [session.post("/sub/score") for _ in range(3)]
    ids = [answer.headers.get_list("decision-id") for answer in answers]
    assert ids == [[answer.json()] for answer in answers]
    with open_log(tmp_path / "audit") as log:
        entries = map(parse_entry, log.store.read(0, log.store.size()))
        found = [entry for entry in entries if entry.type.startswith("auditlog.deci")]
    assert [Decision(entry.id).id for entry in found] == [id_ for (id_,) in ids]
    assert {entry.data["http.route"] for entry in found} == {"/sub/score"}
    # The outermost one records, with its own options.
    assert not [entry for entry in found if "model.name" in entry.data]


def test_requests_at_once_are_not_mixed_up(runtime: FakeRuntime) -> None:
    app = FastAPI()

    @app.post("/{key}")
    def handler(key: str) -> str:
        auditlog.current().set_subject(key)
        return key

    wrapped = add(app, runtime)

    async def main() -> None:
        async def one(number: int) -> None:
            server = Server()
            await wrapped(http_scope(f"/{number}"), server.receive, server.send)

        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(main())
    for seen in runtime.seen:
        assert seen.exchange.target == b"/" + leaves(seen)["subject"]["id"].encode()
    assert len(runtime.seen) == 40


CANARY = "CANARY-7f3a"


def test_in_a_real_log_it_stands_sealed_and_never_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()

    @app.post("/score")
    def score(decision: Given, row: dict[str, str]) -> dict[str, str]:
        decision.set_subject(CANARY)
        decision.set_user(CANARY)
        decision.set_session(CANARY)
        decision.set_result(label=CANARY, score=0.31, reasons=[CANARY])
        decision.set_human(reviewer=CANARY, action="approved")
        decision.attempt(model=CANARY, error=CANARY)
        decision.annotate(note=CANARY)
        decision.split(2)[1].set_result(label=CANARY)
        return {"answer": CANARY}

    @app.post("/skip")
    def skip(decision: Given, row: dict[str, str]) -> dict[str, str]:
        decision.skip(CANARY)
        return {"answer": CANARY}

    @app.post("/no")
    def no(row: dict[str, str]) -> None:
        raise HTTPException(403, CANARY)

    app.add_middleware(
        AuditMiddleware,
        dir=tmp_path / "audit",
        origin="test.example/log",
        durability="sync",
        model="m@1",
    )
    with client(app) as session:
        ids = [
            session.post(f"/{path}", json={"x": CANARY}).headers["decision-id"]
            for path in ("score", "skip", "no")
        ]
    log = open_log(tmp_path / "audit")
    reader = Reader(log)
    entries = log.store.read(0, log.store.size())
    assert not [entry for entry in entries if CANARY.encode() in entry]
    content = reader.content(ids[0])
    assert json.loads(content.context["outcome"])["result"] == {
        "label": CANARY,
        "reasons": [CANARY],
        "score": "0.31",
    }
    assert json.loads(content.context["model"]) == {
        "attempts": [{"error": CANARY, "model": CANARY}],
        "name": "m",
        "version": "1",
    }
    assert CANARY.encode() in content.request
    verify_content(parse_entry(reader.decision(ids[0]).entry or b""), content)
    receipt = reader.receipt(ids[0], disclose=["context/outcome"])
    verdict = verify_receipt(receipt, log.paths.policy.read_text())
    assert dict(verdict.disclosed).keys() == {"context/outcome"}
    assert json.loads(verdict.disclosed[0][1])["human"] == {"action": "approved"}
    with pytest.raises(NotFoundError, match="only the first bytes of 'request' were"):
        reader.receipt(ids[1], disclose=["request"])
    (other,) = json.loads(content.context["annotations"])["auditlog.batch"]["items"]
    data = parse_entry(reader.decision(other).entry or b"").data
    assert data["request"] == {
        "mediaType": "application/json",
        "split": "none",
        "state": "omitted",
    }
    assert (data["http.route"], data["outcome"]) == ("/score", "completed")
    for id_, outcome in zip(ids[1:], ["skipped", "rejected"], strict=True):
        entry = parse_entry(reader.decision(id_).entry or b"")
        assert entry.data["outcome"] == outcome
        assert entry.data["request"]["split"] == "none"
        kept = reader.content(id_)
        assert (kept.request, kept.response) == (b"", b"")
        assert kept.is_capped("request")
        assert kept.is_capped("response")
        verify_content(entry, kept)
