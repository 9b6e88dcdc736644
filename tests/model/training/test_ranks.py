"""Training in several processes: the weights of one, and one clear end where it cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from every_phase import PHASES, train_every_phase
from torch import Tensor, nn

from model.training import ranks

ROOT = Path(__file__).parents[3]

Weights = dict[str, dict[str, Tensor]]


def torchrun(*arguments: str | Path, processes: int = 2) -> list[str]:
    """The command; the port is a free one."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(processes), *map(str, arguments)]


def environment() -> dict[str, str]:
    paths = f"{ROOT}:{ROOT / 'tests/model'}"
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Weights]:
    """Of a process alone, and of two."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    command = torchrun(ROOT / "tests/model/every_phase.py", together)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        found = train_every_phase(alone)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()} | {
        "weights.pt"
    }
    return found, torch.load(together / "weights.pt", weights_only=True)


ANY = {"encoder.pointer_bias.bias", "encoder.pointer_keys.bias"}
"""Biases that a softmax over candidates takes no notice of: their gradient is rounding alone, of which Adam
makes steps."""


@pytest.mark.parametrize("phase", PHASES)
def test_two_processes_give_the_weights_of_one(weights: tuple[Weights, Weights], phase: str) -> None:
    alone, together = (of[phase] for of in weights)
    assert alone.keys() == together.keys()
    for name in alone.keys() - ANY:
        gap = (together[name] - alone[name]).abs().max()
        assert gap < 1e-5, f"{name} differs by {gap}"


def test_draws_of_parts_are_parts_of_the_whole_draw() -> None:
    """Each as torch makes it for all rows; slates in groups are parts of their requests' rows."""
    x = torch.rand(10, 6, 3)
    odds = torch.rand(20, 7)

    def drawn(rows: slice) -> list[Tensor]:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(4)
        grouped = odds[2 * rows.start : 2 * rows.stop]
        return [
            nn.Dropout(0.4)(x[rows]),
            torch.multinomial(grouped, 1, generator=generator),
            torch.rand(len(x[rows]), generator=generator),
            torch.randint(3, 9, (len(x[rows]), 1), generator=generator),
            nn.Dropout(0.4)(x[rows].transpose(1, 2)),
        ]

    whole = drawn(slice(0, 10))
    parts = []
    for rows in (slice(0, 3), slice(3, 10)):
        with ranks.WholeBatchDraws(10, rows):
            parts.append(drawn(rows))
            with pytest.raises(AssertionError, match="randn"):
                torch.randn(3)
    for one, *cut in zip(whole, *parts, strict=True):
        assert torch.equal(one, torch.cat(cut))
