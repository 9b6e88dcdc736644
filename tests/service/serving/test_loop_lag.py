"""How far the event loop is behind, by a clock that the test moves."""

import pytest
from steered_clock import SteeredClock, turns

from service.serving.loop_lag import BEAT_S, LoopLag


async def test_a_stall_is_seen_while_it_lasts_until_the_next_beat(clock: SteeredClock) -> None:
    late_s: list[float] = []
    lag = LoopLag(clock, late_s.append)
    assert lag.seconds == 0.0
    lag.start()
    for _ in range(3):
        await clock.advance(BEAT_S)
        assert lag.seconds == 0.0
    clock.now += BEAT_S + 0.05
    assert lag.seconds == pytest.approx(0.05), "before the loop has turned"
    await turns()
    assert lag.seconds == pytest.approx(0.05), "what is read now has waited"
    await clock.advance(BEAT_S)
    assert lag.seconds == 0.0
    lag.stop()
    assert [s for s in late_s if s > BEAT_S] == pytest.approx([0.05]), "each beat is reported once"
