"""Runners that do what a broken or slow model would, and how they are put below a served model."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rerank_client import Client

from engine.settings import Decoding


class Gate(threading.Event):
    """Closed until it is set. `reached` once somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def clear(self) -> None:
        super().clear()
        self.reached.clear()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@dataclass
class Failing:
    """A runner that raises."""

    provider: str = "CPUExecutionProvider"
    decoding: Decoding = "graph"

    def run(self, *batch: Any) -> dict[str, Any]:
        raise RuntimeError("no more")


@dataclass
class Held:
    """A runner that waits for `gate`."""

    real: Any
    gate: Gate
    provider: str = "CPUExecutionProvider"
    decoding: Decoding = "graph"

    def run(self, *batch: Any) -> Any:
        assert self.gate.wait(60)
        return self.real.run(*batch)


@dataclass
class Confused:
    """A runner whose probabilities are no numbers."""

    real: Any
    provider: str = "CPUExecutionProvider"
    decoding: Decoding = "graph"

    def run(self, *batch: Any) -> Any:
        records = self.real.run(*batch)
        return {**records, "probability": np.full_like(records["probability"], np.nan)}


def put_runner(client: Client, runner: Any) -> None:
    """Swap the runner below the scheduler, which is as deep as a fault can come from."""
    served = client.service.models.get()
    model = replace(served.model, runner=runner)
    served.watched.generate = model.generate


def held(client: Client) -> Gate:
    """What inference waits for from now on."""
    gate, served = Gate(), client.service.models.get()
    put_runner(client, Held(served.model.runner, gate))
    served.scheduler._batch_s = 0.0  # a model known to be slow
    return gate
