"""One worker of the service as a discrete-event simulation: arrivals, admission, batches, deadlines.

An event loop does one thing at a time, in rounds: answers of the last batch go out, whoever has arrived is
read and admitted, for a few turns, then the next batch is in inference. What each of these takes was measured
(`Times`); when they happen is here. Departs from the service in that nobody's share is fairer than another's,
all lists are of like lengths, and whoever is refused is so at once.

Knows no HTTP, and none of the service's code: `Rules` repeats its settings.
"""

import random
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cache

import simpy

TURNS = 2
"""Of the event loop between two batches."""

RECENT = 31
"""Answers by whose median the service tells what each takes."""

READING, PREPARING = 0.15, 0.55
"""Shares of a request's time on the event loop, besides inference: to read it from its socket, and to make it
ready. Answering is what is left. By the stages that the service times; what it does not time is HTTP."""

Events = Generator[simpy.Event, None, None]


@dataclass(frozen=True)
class Times:
    """What was measured of one worker on one core, in seconds.

    Attributes:
        wire_s: outside the worker: the client, and the network between them; less what the worker does for a
            request once it is answered.
        wakes_s: pauses, the shortest first, and by how much a request after each takes longer, caches being
            cold: a sample, in order. In between it is interpolated; after none it takes no longer.
        rest_s: of the event loop before it waits.
        rounds_s: sizes of a batch, the smallest first, and of a round with each. It is interpolated, too.
        request_s: of the event loop for each request, besides inference.
        alone_s: inference of a list alone; one of these by chance, where lists differ.
        marginal: what one more list adds to a batch, over what it takes alone.
        extras_s: by how much requests that followed each other took longer than the median one, or shorter:
            a sample. An event loop that is busy for longer has as many more of them.
    """

    wire_s: float
    wakes_s: tuple[tuple[float, tuple[float, ...]], ...]
    rounds_s: tuple[tuple[float, float], ...]
    request_s: float
    alone_s: tuple[float, ...]
    marginal: float
    extras_s: tuple[float, ...] = (0.0,)
    rest_s: float = 0.0

    def wake_s(self, pause_s: float, quantile: float) -> float:
        """After a pause."""
        before_s, before = 0.0, 0.0
        for after_s, sample in self.wakes_s:
            after = sample[int(quantile * len(sample))]
            if pause_s < after_s:
                return before + (after - before) * (pause_s - before_s) / (after_s - before_s)
            before_s, before = after_s, after
        return before

    @property
    def mean_alone_s(self) -> float:
        return sum(self.alone_s) / len(self.alone_s)

    @property
    def lone_s(self) -> float:
        """A request that follows another, on the worker."""
        return self.round_s(1) + self.request_s + self.mean_alone_s

    def round_s(self, size: int) -> float:
        """With a batch of so many."""
        before, before_s = self.rounds_s[0]
        for after, after_s in self.rounds_s:
            if size < after:
                share = (size - before) / (after - before) if after > before else 0.0
                return before_s + share * (after_s - before_s)
            before, before_s = after, after_s
        return before_s

    @property
    def each_s(self) -> float:
        """A request among many."""
        return self.request_s + self.marginal * self.mean_alone_s


@dataclass(frozen=True)
class Rules:
    """Settings of the service, by their names, but for the unit."""

    max_batch_size: int = 16
    batch_s: float = 0.003
    deadline_s: float = 1.0


@dataclass
class Outcome:
    """Attributes:
    seconds: of each answer of the model, since it was due.
    late: requests whose deadline passed in the queue.
    refused: requests that were not admitted.
    until_s: when the last was answered.
    """

    seconds: list[float] = field(default_factory=list)
    late: int = 0
    refused: int = 0
    until_s: float = 0.0

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


@dataclass(slots=True)
class _Request:
    due_s: float
    alone_s: float
    since_s: float = 0.0
    among: int = 0


class _Occupancy:
    """Requests that are there, and how long each takes it: as the service sees that (Little's law)."""

    def __init__(self) -> None:
        self.count, self.each_s = 0, 0.0
        self._recent = deque[float](maxlen=RECENT)

    def enter(self, one: _Request, now: float) -> None:
        self.count += 1
        one.since_s, one.among = now, self.count

    def leave(self, one: _Request, now: float) -> None:
        self._recent.append((now - one.since_s) / max(one.among, self.count))
        self.each_s = sorted(self._recent)[len(self._recent) // 2]
        self.count -= 1


class Worker:
    """Takes what is put into its socket, and records what becomes of it."""

    def __init__(
        self,
        world: simpy.Environment,
        times: Times,
        rules: Rules,
        seed: int,
        on_answer: Callable[[float], None] = lambda after_s: None,
    ) -> None:
        self._world, self._times, self._rules, self._random = world, times, rules, random.Random(seed)
        self._socket, self._seen, self._queue = deque[_Request](), deque[_Request](), deque[_Request]()
        self._answers: list[_Request] = []
        self._arrived, self._occupancy = world.event(), _Occupancy()
        self._on_answer = on_answer
        self.outcome = Outcome()
        world.process(self._work())

    def send(self, due_s: float) -> None:
        self._socket.append(_Request(due_s, self._random.choice(self._times.alone_s)))
        if not self._arrived.triggered:
            self._arrived.succeed()

    def _work(self) -> Events:
        while True:
            if not (self._socket or self._seen):
                yield self._world.timeout(self._times.rest_s)
            if not (self._socket or self._seen):
                self._arrived, since = self._world.event(), self._world.now
                yield self._arrived
                wake_s = self._times.wake_s(self._world.now - since, self._random.random())
                yield self._world.timeout(wake_s)
            yield from self._poll()
            yield from self._turn()
            while self._queue:
                self._answers = self._next_batch()
                if self._answers:
                    infer_s = self._batch_s(one.alone_s for one in self._answers)
                    yield self._spend(self._times.round_s(len(self._answers)) + infer_s)
                yield from self._make_ready()
                yield from self._poll()
                for _ in range(TURNS):
                    yield from self._turn()

    def _turn(self) -> Iterator[simpy.Event]:
        yield from self._answer()
        yield from self._make_ready()
        yield from self._poll()

    def _poll(self) -> Iterator[simpy.Event]:
        """Whoever is there is read, to be made ready in the next turn."""
        there = len(self._socket)
        self._seen.extend(self._socket)
        self._socket.clear()
        if there:
            yield self._spend(there * READING * self._times.request_s)

    def _spend(self, seconds: float) -> simpy.Event:
        """So much work, and the interruptions that it meets."""
        count, left = divmod(seconds / self._times.lone_s, 1.0)
        draws = int(count) + (self._random.random() < left)
        extra_s = sum(self._random.choice(self._times.extras_s) for _ in range(draws))
        return self._world.timeout(max(0.0, seconds + extra_s))

    def _answer(self) -> Iterator[simpy.Event]:
        """One after the other, as one event."""
        going, self._answers = self._answers, []
        each_s = (1 - READING - PREPARING) * self._times.request_s
        for place, one in enumerate(going, start=1):
            self.outcome.until_s = self._world.now + place * each_s
            self.outcome.seconds.append(self.outcome.until_s - one.due_s + self._times.wire_s)
            self._on_answer(place * each_s)
        if going:
            yield self._spend(len(going) * each_s)
        for one in going:
            self._occupancy.leave(one, self._world.now)

    def _make_ready(self) -> Iterator[simpy.Event]:
        """Whoever was read, as one event. Who is read just before a batch is made ready after it, and before
        its answers go out."""
        there, each_s = len(self._seen), PREPARING * self._times.request_s
        for place in range(1, there + 1):
            one, now = self._seen.popleft(), self._world.now + place * each_s
            if self._admitted(one, now):
                self._occupancy.enter(one, now)
                self._queue.append(one)
            else:
                self.outcome.refused += 1
                self._on_answer(place * each_s)
        if there:
            yield self._spend(there * each_s)

    def _admitted(self, one: _Request, now: float) -> bool:
        """As far as it is predicted to be answered in time, by who is there and by who is queued.
        One that nobody is before is tried."""
        room = one.due_s + self._rules.deadline_s - now
        occupancy = self._occupancy
        if occupancy.count and (occupancy.count + 1) * occupancy.each_s > room:
            return False
        return not self._queue or sum(other.alone_s for other in (*self._queue, one)) <= room

    def _next_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        only = len(self._queue) == 1
        while self._queue and len(batch) < self._rules.max_batch_size:
            one, deadline_s = self._queue[0], self._queue[0].due_s + self._rules.deadline_s
            least_s = 0.0 if only else one.alone_s
            if deadline_s <= self._world.now + least_s:
                late = self._queue.popleft()
                self._occupancy.leave(late, self._world.now)
                self.outcome.late += 1
                self._on_answer(0.0)
                continue
            longer = [*(other.alone_s for other in batch), one.alone_s]
            if batch and self._batch_s(iter(longer)) > self._rules.batch_s:
                break
            batch.append(self._queue.popleft())
        return batch

    def _batch_s(self, alone_s: Iterator[float]) -> float:
        seconds = list(alone_s)
        share = self._times.marginal
        return share * sum(seconds) + (1 - share) * max(seconds, default=0.0)


def open_loop(times: Times, rules: Rules, rate: float, count: int, seed: int = 0) -> Outcome:
    """So many requests, as a Poisson process of `rate` a second."""
    world = simpy.Environment()
    worker = Worker(world, times, rules, seed)
    arrivals = random.Random(seed + 1)

    def arrive() -> Events:
        for _ in range(count):
            yield world.timeout(arrivals.expovariate(rate))
            worker.send(world.now)

    world.process(arrive())
    world.run()
    return worker.outcome


def closed_loop(times: Times, rules: Rules, connections: int, count: int, seed: int = 0) -> Outcome:
    """So many requests on connections that each send the next once they are answered."""
    world = simpy.Environment()
    left = [count - connections]

    def send(after_s: float) -> Events:
        yield world.timeout(after_s)
        worker.send(world.now)

    def again(after_s: float) -> None:
        if left[0] > 0:
            left[0] -= 1
            world.process(send(max(0.0, after_s + times.wire_s)))

    worker = Worker(world, times, rules, seed, again)
    for _ in range(connections):
        worker.send(0.0)
    world.run()
    return worker.outcome


@cache
def rate_within(
    times: Times, rules: Rules, p99_ms: float, count: int = 5000, seeds: tuple[int, ...] = (0,)
) -> float:
    """The highest rate a second, to within 2 %, at which all but one in a hundred take no longer.

    Raises:
        ValueError: there is none: one that comes alone takes longer.
    """

    def holds(rate: float) -> bool:
        found = [open_loop(times, rules, rate, count, seed) for seed in seeds]
        return all(
            one.quantile_ms(0.99) <= p99_ms and one.late + one.refused <= 0.001 * count for one in found
        )

    low, high = 0.02 / times.each_s, 1.1 / times.each_s
    if not holds(low):
        raise ValueError(f"p99_ms: a list that comes alone takes longer than {p99_ms:g} ms now and then")
    while high > 1.02 * low:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
