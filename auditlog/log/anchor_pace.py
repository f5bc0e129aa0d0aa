"""When one anchor is asked next: an interval, and growing distances after failures.

Nothing here looks at a clock; times are seconds since the epoch. A clock that was set
back makes everything due at once, rather than wait for the old time to come again.
"""

from typing import NamedTuple

__all__ = ["Backoff", "Pace", "Wait", "retry_after"]

_RETRY_SECONDS = 60.0
_LOOK_SECONDS = 15.0
_MAX_SECONDS = 3600.0
_MAX_LASTING_SECONDS = 86400.0


def retry_after(failures: int, interval: float) -> float:
    """Return how many seconds an anchor is left alone that failed so often in a row.

    A minute, doubled each time up to an hour: 29 attempts in an outage of a day.

    Args:
        failures: at least 1.
        interval: seconds between rounds; a shorter one shortens the first waits.
    """
    return _doubled(min(_RETRY_SECONDS, interval), failures - 1)


def _doubled(first: float, times: int, most: float = _MAX_SECONDS) -> float:
    # 2^64 of anything is over the limit, and 2^5000 is no float.
    return min(most, first * float(1 << min(times, 64)))


class Wait(NamedTuple):
    """A time to wait, and since when."""

    since: float = 0.0
    seconds: float = 0.0

    def over(self, now: float) -> bool:
        """Return whether it has passed, or the clock was set back before it began."""
        return not self.since <= now < self.end

    @property
    def end(self) -> float:
        """When it is over."""
        return self.since + self.seconds


class Backoff:
    """Attempts of one sort that failed in a row, and until when none is made."""

    def __init__(self, interval: float) -> None:
        """Begin without a failure."""
        self._interval = interval
        self.failures = 0
        self.wait = Wait()
        self._said = ""

    def news(self, text: str) -> bool:
        """Return whether the newest failure was not told of in the same words."""
        known, self._said = self._said, text
        return text != known

    def failed(self, now: float) -> None:
        """Take in a failure."""
        self.restore(self.failures + 1, now)

    def restore(self, failures: int, since: float) -> None:
        """Take in so many failures, the last one at `since`."""
        self.failures = failures
        wait = retry_after(failures, self._interval) if failures else 0.0
        self.wait = Wait(since, wait)

    def succeeded(self) -> None:
        """Take in an attempt that did not fail."""
        self.restore(0, 0.0)
        self._said = ""


class Pace:
    """The clock of attempts of one anchor. Not for several threads at once."""

    def __init__(self, interval: float) -> None:
        """Let everything be due.

        Args:
            interval: seconds between two submissions.
        """
        self._interval = interval
        self.submission = Wait()
        """Until the next checkpoint is submitted."""
        self.asking = Backoff(interval)
        """Of submissions; whoever does not take one is not asked for anything."""
        self.looking = Backoff(interval)
        """Of looking at what is pending, which stands in no submission's way."""
        self.keeping = Backoff(interval)
        """Of having a history kept, which stands in nothing's way either."""
        self._looks: dict[tuple[int, int], tuple[int, Wait]] = {}

    def may_submit(self, now: float) -> bool:
        """Return whether it is time for the next checkpoint."""
        return self.submission.over(now) and self.asking.wait.over(now)

    def may_look(self, what: tuple[int, int], now: float) -> bool:
        """Return whether a pending attestation, by log and size, is to be looked at."""
        if not (self.asking.wait.over(now) and self.looking.wait.over(now)):
            return False
        return what not in self._looks or self._looks[what][1].over(now)

    def submitted(self, now: float) -> None:
        """Take in that a checkpoint was submitted."""
        self.submission = Wait(now, self._interval)
        self.asking.succeeded()

    def may_keep(self, what: tuple[int, int], now: float) -> bool:
        """Return whether a history is to be kept, or looked at; see `may_look`."""
        if not (self.asking.wait.over(now) and self.keeping.wait.over(now)):
            return False
        return what not in self._looks or self._looks[what][1].over(now)

    def looked(
        self,
        what: tuple[int, int],
        now: float,
        *,
        changed: bool,
        lasting: bool = False,
    ) -> None:
        """Take in that a pending attestation was looked at: the next time is later.

        From a quarter of a minute on, doubled each time up to an hour.

        Args:
            what: log and size.
            now: seconds since the epoch.
            changed: whether it was brought forward.
            lasting: whether it failed in a way that hardly ever goes away: up to a
                day then, for each time is an entry.
        """
        times = 0 if changed or what not in self._looks else self._looks[what][0] + 1
        most = _MAX_LASTING_SECONDS if lasting else _MAX_SECONDS
        wait = _doubled(min(_LOOK_SECONDS, self._interval), times, most)
        self._looks[what] = times, Wait(now, wait)

    def last_looked(self, what: tuple[int, int]) -> float:
        """Return when a pending attestation was looked at last; 0 if never."""
        return self._looks[what][1].since if what in self._looks else 0.0

    def settled(self, what: tuple[int, int]) -> None:
        """Forget an attestation that is final."""
        self._looks.pop(what, None)
