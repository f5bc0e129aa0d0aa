"""How much a witness does for one log, and for all."""

import math
from collections.abc import Callable

__all__ = ["Budget", "per_day", "per_second"]

_DAY = 86_400
_HOURS = 24
_LEAST_AT_ONCE = 20
_MAX_WAIT = 3600


class Budget:
    """Requests that may come: so many a second, and so many saved up at once.

    Not for several threads.
    """

    def __init__(self, rate: float, most: float, clock: Callable[[], float]) -> None:
        """Begin with all that can be saved up.

        Args:
            rate: requests a second, more than 0.
            most: requests that can be saved up, at least 1.
            clock: seconds that never go back.
        """
        self._rate = rate
        self._most = most
        self._clock = clock
        self._left = most
        self._at = clock()

    def take(self) -> int:
        """Count a request; return 0, or the seconds after which one may come."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0
        return min(_MAX_WAIT, math.ceil((1 - self._left) / self._rate))


def per_day(requests: int, clock: Callable[[], float]) -> Budget:
    """Return a budget for a day; an hour's worth may come at once."""
    return Budget(requests / _DAY, max(requests / _HOURS, _LEAST_AT_ONCE), clock)


def per_second(requests: int, clock: Callable[[], float]) -> Budget:
    """Return a budget for each second; two seconds' worth may come at once."""
    return Budget(requests, 2 * requests, clock)
