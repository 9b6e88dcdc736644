"""Who is let into a queue: whoever is predicted to be answered in time, without reasoning.

Knows nothing of how a queue is worked off, but that it is fair. Times are seconds of its clock.
"""

from collections.abc import Callable, Hashable, Sequence

from service.errors import OverloadedError
from service.serving.cost import Price
from service.serving.lane import Lane
from service.serving.occupancy import Occupancy


class Admission:
    """Args:
    max_queue: requests that may wait in all lanes, whatever is predicted: a limit for safety.
    lag_s: how far the event loop is behind.
    occupancy: of the event loop.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        max_queue: int,
        lag_s: Callable[[], float],
        occupancy: Occupancy,
        clock: Callable[[], float],
    ) -> None:
        self._lanes, self._max_queue, self._lag_s, self._clock = lanes, max_queue, lag_s, clock
        self._occupancy = occupancy

    def check(self, lane: Lane, price: Price, deadline: float, caller: Hashable) -> None:
        """One that nobody is before is tried whatever is predicted, so that a wrong prediction is found out.

        Raises:
            OverloadedError: the request would be late because of those before it, or the limit is reached.
        """
        now, factor = self._clock(), lane.pace.factor
        if self._occupancy.count:
            wait = self._occupancy.all_s
            if wait > deadline - now and (wait := self._occupancy.share_s(caller)) > deadline - now:
                raise OverloadedError("too much is being done to answer in time", wait)
        if lane.idle:
            return
        wait = self._lag_s() + lane.left_s(now) + factor * lane.queue.seconds
        room = deadline - now - factor * price.least_s
        if wait > room:  # unless its caller has asked for less than others
            wait += factor * (lane.queue.ahead_s(caller, price.least_s) - lane.queue.seconds)
        if wait > room or sum([len(lane.queue) for lane in self._lanes]) >= self._max_queue:
            raise OverloadedError("too much is queued to answer in time", wait)
