"""How many requests the event loop has on its hands, and how long each takes it, all in all.

Reading, features, answering, and turning others away take three times as long as inference, hence the
engine's time alone does not tell who will be late.

By Little's law the time that a request is there, over the number there are, is the time between two answers,
which is what each takes while the loop is busy. Knows nothing of deadlines or queues. Seconds of its clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic

RECENT = 31
"""Requests whose median counts: a stall in between, or one that was large, says little of the next."""

EVERY = 8
"""Requests between two looks at it."""


class Occupancy:
    """Of one event loop, whatever the model.

    Attributes:
        each_s: what each of recent requests took; 0 before the first.
        count: requests that are there, and of these
        away: how many wait for others.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._by_caller: dict[Hashable, int] = {}
        self.count = self._ended = self.away = 0
        self._recent = deque[float](maxlen=RECENT)
        self.on_answer: list[Callable[[], None]] = []
        self.each_s = 0.0

    @property
    def all_s(self) -> float:
        """Seconds until everybody is answered, and one more."""
        return (self.count + 1) * self.each_s

    def share_s(self, caller: Hashable) -> float:
        """As `all_s`, but of every other caller no more than this one would then have had itself."""
        own = self._by_caller.get(caller, 0) + 1
        others = sum(min(count, own) for other, count in self._by_caller.items() if other != caller)
        return (own + others) * self.each_s

    def stay(self, caller: Hashable) -> "Stay":
        """For a request that is admitted, until its answer is ready to be sent."""
        return Stay(self, caller, self._clock)

    def enter(self, caller: Hashable) -> int:
        """Returns how many are at work now."""
        self.count += 1
        self._by_caller[caller] = self._by_caller.get(caller, 0) + 1
        return self.count - self.away

    def leave(self, caller: Hashable, seconds: float, among: int) -> None:
        """One of so many has been at work for so long, and its answer is sent."""
        self._recent.append(seconds / max(among, self.count - self.away))
        self._ended += 1
        if self._ended % EVERY == 0 or len(self._recent) < EVERY:
            self.each_s = sorted(self._recent)[len(self._recent) // 2]
        self.count -= 1
        left = self._by_caller.pop(caller) - 1
        if left:
            self._by_caller[caller] = left
        for told in self.on_answer:
            told()


class Stay:
    """One request among the others: a context, to be entered on the event loop."""

    __slots__ = ("_among", "_caller", "_clock", "_left_at", "_of", "_since")

    def __init__(self, of: Occupancy, caller: Hashable, clock: Callable[[], float]) -> None:
        self._of, self._caller, self._clock = of, caller, clock

    def __enter__(self) -> "Stay":
        self._since, self._among = self._clock(), self._of.enter(self._caller)
        return self

    def __exit__(self, *_: object) -> None:
        # What is written goes out at the end of the event loop's turn.
        asyncio.get_running_loop().call_soon(self._left)

    def away(self) -> "Away":
        """A context for waiting for others, which takes nothing of the event loop."""
        return Away(self)

    def left_loop(self) -> None:
        self._of.away += 1
        self._left_at = self._clock()

    def came_back(self) -> None:
        self._of.away -= 1
        self._since += self._clock() - self._left_at

    def _left(self) -> None:
        self._of.leave(self._caller, self._clock() - self._since, self._among)


class Away:
    """Part of a `Stay`."""

    __slots__ = ("_stay",)

    def __init__(self, stay: Stay) -> None:
        self._stay = stay

    def __enter__(self) -> None:
        self._stay.left_loop()

    def __exit__(self, *_: object) -> None:
        self._stay.came_back()
