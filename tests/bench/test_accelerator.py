"""The report for whoever has a GPU, where there is none: it runs to its end, and says so."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import accelerator
from bench.training import Spent, Worked, launched


def worked(*weights: float, lists: int = 0) -> Worked:
    """A training of two weights, and a search that came to other lists in so many of a thousand."""
    of: dict[str, Tensor] = {"some": torch.tensor(weights), "encoder.pointer_bias.bias": torch.rand(1)}
    found = [[int(number < lists), 2] for number in range(1000)]
    return Worked({"warm start": Spent(1.5, 1.0)}, {"warm start": of}, {"beam search": found})


def run(bundle: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    told = ["accelerator", "--bundle", str(bundle), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*told, "--lists", "8", "--seconds", "0.001"])
    monkeypatch.setattr(accelerator, "SIZES", ((1, 10), (4, 10)))
    monkeypatch.setattr(accelerator, "launched", lambda *_: worked(1.0, 2.0))  # the real one is slow
    return accelerator.main()


@pytest.mark.skipif(accelerator.gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_all_else_is_run_and_the_report_says_so(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(bundle, tmp_path, monkeypatch) == accelerator.NO_GPU
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["gpu"] is None
    assert {"CUDA graphs", "TensorRT", "training on CUDA", accelerator.OVER_NCCL} <= set(found["left_out"])
    assert {row["what"] for row in found["checks"]} >= {
        "lists: step, cpu",
        "lists with rules: fixed shapes, cpu",
    }
    assert all(row["agrees"] for row in found["checks"])
    assert {row["path"] for row in found["times"]} == {"step, cpu", "fixed shapes, cpu"}
    page = (tmp_path / "report.md").read_text()
    assert "GPU: none was found." in page
    assert "Not run: " in page
    assert "| warm start | 1.5 | 1.5 |" in page


def test_what_differs_fails(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(accelerator.FixedShapeRunner, "run", broken)
    assert run(bundle, tmp_path, monkeypatch) == accelerator.FAILED
    rows = json.loads((tmp_path / "report.json").read_text())["checks"]
    (row,) = (one for one in rows if one["what"] == "lists: fixed shapes, cpu")
    assert (row["agrees"], row["error"]) == (False, "RuntimeError: no such kernel")


@pytest.mark.parametrize(
    ("other", "agrees"),
    [
        (worked(1.0, 2.0 + 9e-4), True),
        (worked(1.0, 2.0 + 2e-3), False),
        (worked(1.0, float("nan")), False),
        (worked(1.0, 2.0, lists=1), True),
        (worked(1.0, 2.0, lists=5), False),
    ],
)
def test_trainings_agree_within_what_rounding_does(other: Worked, agrees: bool) -> None:
    assert accelerator.came_to_the_same(worked(1.0, 2.0), other)["agrees"] is agrees


def test_what_gpus_there_are_are_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One and two of them; a training that fails is a row, with what it said."""

    def failing(processes: int, device: str, lists: int) -> Worked:
        if device == "cuda":
            raise RuntimeError("--device cuda: no GPU")
        return worked(1.0, 2.0)

    monkeypatch.setattr(accelerator, "launched", failing)
    rows, spent = accelerator.trainings(2)
    assert [(row["what"], row["agrees"]) for row in rows] == [
        ("training: cpu, 2 processes", True),
        ("training: cuda", False),
        ("training: cuda, 2 processes", False),
    ]
    assert rows[1]["error"] == "RuntimeError: --device cuda: no GPU"
    assert list(spent) == ["cpu", "cpu, 2 processes"]


@pytest.mark.slow
def test_trainings_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "TRAINED_LISTS", 300)
    rows, spent = accelerator.trainings(0)
    assert [(row["what"], row["agrees"]) for row in rows] == [("training: cpu, 2 processes", True)]
    assert list(spent) == ["cpu", "cpu, 2 processes"]
    assert spent["cpu"].keys() == spent["cpu, 2 processes"].keys()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_launch_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="--device cuda: no GPU"):
        launched(1, "cuda", 300)
