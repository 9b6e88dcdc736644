"""What many tests need: a served bundle, a real Redis, and an environment without our settings."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from launch.redis import RedisServer

if TYPE_CHECKING:  # it brings torch, which most tests do without
    from tiny_bundle import TinyBundles

# Models this small are quickest on one thread, and threads that spin starve the servers beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RERANK_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this run have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_bundles(shared: Path) -> "TinyBundles":
    """Small untrained bundles, exported for real."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's libraries warn of each other
        from tiny_bundle import TinyBundles

        return TinyBundles(shared)


@pytest.fixture(scope="session")
def bundle(tiny_bundles: "TinyBundles") -> Path:
    """The one of them that most tests serve."""
    return tiny_bundles()


@pytest.fixture(scope="session")
def trained_bundle(shared: Path) -> Path:
    """A small bundle from a real, short training run on the simulator."""
    run, repository = shared / "run", shared / "simulated"
    with FileLock(shared / "trained.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from export.__main__ import export
        from model import train
        from model.training.config import read_config, with_changes

        if (repository / "current").exists():
            return (repository / "current").resolve()
        small = {
            "simulator": {"items": 200, "lists": 600},
            "policy": {"width": 16, "encoder": {"token_width": 4}},
            "evaluator": {"width": 16, "members": 1, "epochs": 4, "batch": 32, "learning_rate": 1e-2},
            "supervised": {"epochs": 2},
            "imitation": {"epochs": 0},
            "expert_iteration": {"rounds": 0},
        }
        config = read_config(Path(__file__).parents[1] / "configs/simulator.toml")
        train.train(with_changes(config, small), run, require_evaluator=True)
        return export(run, repository, version="7")


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """A Redis that may not be running."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """A running, empty Redis."""
    redis_process.start()
    redis_process.client.flushall()
    return redis_process
