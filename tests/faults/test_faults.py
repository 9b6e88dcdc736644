"""The harness itself, in short: what it counts is what happened."""

from pathlib import Path
from time import sleep

import pytest

from faults import callers, store
from faults.__main__ import Fault, suffer
from faults.scene import Scene
from faults.traffic import CANDIDATES
from launch.redis import RedisServer


@pytest.mark.parametrize("fault", [store.connections_killed, callers.half_sent_headers])
def test_nobody_fails_and_nothing_is_lost(fault: Fault, bundle: Path, tmp_path: Path) -> None:
    tally = suffer(fault, bundle, 0.5, tmp_path)
    assert tally.sent == tally.answered + tally.degraded + tally.failed > 0
    assert (tally.failed, tally.lost, tally.doubled) == (0, 0, 0), tally
    assert tally.accepted > 0


def forgets(scene: Scene) -> None:
    """Redis is emptied, and the service comes back as one that takes no list as long as these"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port) as traffic:
        while traffic.tally.accepted < 20:
            sleep(0.05)
        redis.client.flushall()
        service.process.kill()
        service.process.wait()
        scene.serve("--redis-url", redis.url, "--max-items", str(CANDIDATES - 1), port=service.port)


def test_failures_and_losses_are_seen(bundle: Path, tmp_path: Path) -> None:
    tally = suffer(forgets, bundle, 0.5, tmp_path)
    assert tally.failed >= tally.reasons["validation"] > 0, tally.reasons
    assert tally.lost > 0
