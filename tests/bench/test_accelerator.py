"""The report for whoever has a GPU, where there is none: it runs to its end, and says so."""

import json
import sys
from pathlib import Path

import pytest

from bench import accelerator


def run(bundle: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    told = ["accelerator", "--bundle", str(bundle), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*told, "--lists", "8", "--seconds", "0.001"])
    monkeypatch.setattr(accelerator, "SIZES", ((1, 10), (4, 10)))
    return accelerator.main()


@pytest.mark.skipif(accelerator.gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_all_else_is_run_and_the_report_says_so(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(bundle, tmp_path, monkeypatch) == accelerator.NO_GPU
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["gpu"] is None
    assert {"CUDA graphs", "TensorRT"} <= set(found["left_out"])
    assert {row["what"] for row in found["checks"]} >= {
        "lists: step, cpu",
        "lists with rules: fixed shapes, cpu",
    }
    assert all(row["agrees"] for row in found["checks"])
    assert {row["path"] for row in found["times"]} == {"step, cpu", "fixed shapes, cpu"}
    page = (tmp_path / "report.md").read_text()
    assert "GPU: none was found." in page
    assert "Not run: " in page


def test_what_differs_fails(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(accelerator.FixedShapeRunner, "run", broken)
    assert run(bundle, tmp_path, monkeypatch) == accelerator.FAILED
    rows = json.loads((tmp_path / "report.json").read_text())["checks"]
    (row,) = (one for one in rows if one["what"] == "lists: fixed shapes, cpu")
    assert (row["agrees"], row["error"]) == (False, "RuntimeError: no such kernel")
