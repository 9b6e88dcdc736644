"""The first command: what it says of lists, and that it needs no data and no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo import quality
from model.data import simulator
from model.data.simulator import SimulatorConfig
from model.data.slate import Dataset, LoggedSlate

ROOT = Path(__file__).parents[1]


def test_true_values_stand_beside_the_oracles() -> None:
    dataset = simulator.load(SimulatorConfig(items=50, lists=40, candidates=8, shown=4))
    lists = dataset.slates["test"]
    assert dataset.true_value is not None
    greedy = [np.argsort(slate.scores or ())[::-1][:4] for slate in lists]
    found = quality(dataset, lists, greedy)
    by_hand = [dataset.true_value(slate, order.tolist()) for slate, order in zip(lists, greedy, strict=True)]
    assert found["true_value"] == pytest.approx(np.mean(by_hand))
    assert found["initial"] < found["true_value"] < found["oracle"]
    assert found["initial"] == pytest.approx(np.mean([dataset.true_value(s, [0, 1, 2, 3]) for s in lists]))


def test_lists_that_nobody_clicked_count_for_nothing() -> None:
    shown = np.arange(2)
    clicked, passed = (
        LoggedSlate("r", "u", ("a", "b"), shown, np.array(labels, np.float32), 0.0)
        for labels in ([0, 1], [0, 0])
    )
    dataset = Dataset("log", {}, {"train": [], "validation": [], "test": [clicked, passed]}, {})
    found = quality(dataset, [clicked, passed], [np.array([1, 0])] * 2)
    assert found == pytest.approx({"ndcg@10": 1.0, "initial": 1 / np.log2(3)})


@pytest.mark.slow
def test_the_demo_needs_no_data_and_no_network(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    alone = {**os.environ, **nowhere, "no_proxy": "127.0.0.1", "EGLR_DATA_DIR": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "demo.py", "--directory", str(tmp_path)],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Using simulated data instead." in done.stdout
    assert "nan" not in done.stdout.lower().split()
    last = done.stdout.splitlines()[-1]
    assert last.startswith("demo: ok dataset=simulator ")
    told = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)(?= )", last)}
    assert told["initial"] < told["true_value"] < told["oracle"]
    assert {"reasoning_tokens_per_list", "p50_ms"} <= set(told)
