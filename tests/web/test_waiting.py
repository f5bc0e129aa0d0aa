"""Answers that wait: woken together, from any thread, and given up one by one."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from auditlog.core.errors import AuditLogError, StorageError
from auditlog.web import waiting
from auditlog.web.waiting import Waiters


class CountedWaiters(Waiters):
    """Counts the turns of the loop in which somebody was answered."""

    turns = 0

    def _settle(self) -> None:
        self.turns += 1
        super()._settle()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


def test_many_are_answered_in_one_turn(loop: asyncio.AbstractEventLoop) -> None:
    waiters = CountedWaiters(loop)
    refused = StorageError("disk full")
    waiting_ = [waiters.add() for _ in range(100)]

    def tell_all() -> None:
        for number, one in enumerate(waiting_):
            waiters.tell(one, refused if number % 2 else None)

    async def main() -> list[AuditLogError | None]:
        thread = threading.Thread(target=tell_all)
        thread.start()
        thread.join()
        return await asyncio.gather(*waiting_)

    assert loop.run_until_complete(main()) == [None, refused] * 50
    assert waiters.turns == 1


def test_who_is_told_one_by_one_is_answered_one_by_one(
    loop: asyncio.AbstractEventLoop,
) -> None:
    waiters = Waiters(loop)

    async def main() -> None:
        for _ in range(3):
            one = waiters.add()
            threading.Thread(target=waiters.tell, args=(one, None)).start()
            assert await one is None

    loop.run_until_complete(main())
    assert not waiters._deadlines


def test_who_is_not_told_gives_up_and_later_word_changes_nothing(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 0.02)
    waiters = Waiters(loop)

    async def main() -> None:
        first, told = waiters.add(), waiters.add()
        waiters.tell(told, None)
        await asyncio.sleep(0.01)
        last = waiters.add()
        answers = [str(await one) for one in (first, told, last)]
        late = "expected acceptance within 10 s, got no answer"
        assert answers == [late, "None", late]
        waiters.tell(first, None)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert not waiters._deadlines


def test_after_one_has_waited_in_vain_nobody_waits_until_somebody_is_told(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs would else delay every answer by ten seconds."""
    monkeypatch.setattr(waiting, "SECONDS", 0.02)
    waiters = Waiters(loop)

    async def main() -> None:
        first = waiters.add()
        late = "expected acceptance within 10 s, got no answer"
        assert str(await first) == late
        second = waiters.add()
        assert second.done()
        assert str(second.result()) == late
        # The disk answers again: of both, and then of the next.
        waiters.tell(first, None)
        waiters.tell(second, None)
        await asyncio.sleep(0)
        third = waiters.add()
        assert not third.done()
        waiters.tell(third, None)
        assert await third is None

    loop.run_until_complete(main())
    assert not waiters._deadlines


def test_an_answer_that_was_cancelled_hurts_nobody(
    loop: asyncio.AbstractEventLoop,
) -> None:
    waiters = Waiters(loop)

    async def main() -> None:
        gone, other = waiters.add(), waiters.add()
        gone.cancel()
        waiters.tell(gone, None)
        waiters.tell(other, None)
        assert await other is None

    loop.run_until_complete(main())


def test_a_loop_that_is_closed_has_nobody_to_tell() -> None:
    loop = asyncio.new_event_loop()
    waiters = Waiters(loop)
    one = waiters.add()
    loop.close()
    waiters.tell(one, None)
    assert not one.done()
