"""Drift against the held-out lists of the bundle."""

import math
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rerank_client import Client, Serve
from tiny_bundle import tiny_reference

from bundle.manifest import read_manifest
from bundle.reference import Distribution, Reference, population_stability_index
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from service.observe.drift import PANES, Counts, Drift
from service.observe.metrics import Metrics

ITEMS = [f"i{n}" for n in range(24)]


def test_the_index_by_hand() -> None:
    """Of shares 0.2, 0.8 against 0.5, 0.5, at counts so large that half an observation is nothing."""
    by_hand = (0.2 - 0.5) * math.log(0.2 / 0.5) + (0.8 - 0.5) * math.log(0.8 / 0.5)
    assert population_stability_index([5 * 10**6] * 2, [2 * 10**6, 8 * 10**6]) == pytest.approx(
        by_hand, rel=1e-5
    )
    assert population_stability_index([3, 7], [300, 700]) == pytest.approx(0, abs=0.01)
    assert math.isfinite(population_stability_index([0, 10], [10, 0]))


def test_the_bins_include_their_upper_bound() -> None:
    assert Distribution.of([0.5, 1.0, 1.5, 9.0], (1.0, 2.0)).counts == (2, 1, 1)
    with pytest.raises(ValueError, match="2 bounds need one count more, got 2"):
        Distribution(bounds=(1.0, 2.0), counts=(1, 1))


class Traffic:
    """Cumulative counts of lists whose every signal lies in one of two bins."""

    def __init__(self) -> None:
        self.seen = [0, 0]

    def lists(self, low: int, high: int) -> None:
        self.seen = [self.seen[0] + low, self.seen[1] + high]

    def counts(self) -> Counts:
        return (tuple(self.seen),) * 5


HALVES = Distribution(bounds=(1.0,), counts=(500, 500))
EVEN = Reference(entropy=(HALVES,), tokens=HALVES, score=HALVES, list_size=HALVES)


def test_the_window_slides_and_forgets() -> None:
    traffic = Traffic()
    drift = Drift(EVEN, traffic.counts, window=100)
    traffic.lists(0, 99)
    assert drift.indices() == {}
    assert drift.lists == 99
    traffic.lists(0, 1)
    assert set(drift.indices()) == {
        *(("entropy", "0"), ("entropy", "all")),
        *(("trigger", "all"), ("score", "all"), ("list_size", "all")),
    }
    assert min(drift.indices().values()) > 1
    for _ in range(20):
        traffic.lists(5, 5)
        drift.indices()
    assert max(drift.indices().values()) == pytest.approx(0, abs=1e-3), "the first hundred are forgotten"
    assert 100 <= drift.lists <= 120


def test_its_memory_is_bounded_however_often_it_is_asked() -> None:
    traffic = Traffic()
    drift = Drift(EVEN, traffic.counts, window=100)
    for _ in range(2000):
        traffic.lists(1, 0)
        drift.indices()
        assert len(drift._panes) <= PANES + 1


@pytest.fixture(scope="module")
def held_out(trained_bundle: Path) -> list[dict[str, np.ndarray]]:
    """The validation lists that training kept out, as the model takes them."""
    from model.data.features import DatasetFeatures
    from model.data.open_dataset import open_dataset
    from model.training.checkpoint import load_config, load_features
    from model.training.examples import examples

    dataset = open_dataset(load_config(trained_bundle))
    features = DatasetFeatures(load_features(trained_bundle))
    return [row.inputs for row in examples(dataset.slates["validation"], features, training=False)]


async def indices(model: LoadedModel, lists: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """What the gauges say after these lists."""
    everything, provider = Metrics(), model.runner.provider
    metrics = everything.for_model("m", "1")
    metrics.serving(model.manifest, provider, provider, drift_window=len(lists))
    for inputs in lists:
        candidates = len(inputs["candidate_numeric"])
        controls = Controls.default(model.manifest, min(model.manifest.slate_length, candidates))
        metrics.list_size.observe(candidates)
        metrics.slate(*model.generate([inputs], [controls]))
    text = (await everything.text()).decode()
    (family,) = (f for f in text_string_to_metric_families(text) if f.name == "rerank_drift_psi")
    return {f"{s.labels['signal']}:{s.labels['position']}": s.value for s in family.samples}


async def test_the_held_out_lists_themselves_are_no_drift(trained_bundle: Path, held_out: list) -> None:
    """Recomputed by serving: training decoded them with PyTorch, in batches."""
    model = LoadedModel.open(trained_bundle)
    found = await indices(model, held_out)
    assert {"entropy:0", "entropy:9", "entropy:all", "trigger:all", "score:all", "list_size:all"} <= set(
        found
    )
    assert max(found.values()) < 1e-3

    reference = read_manifest(trained_bundle).gate.reference
    assert reference is not None
    assert reference.comparable
    assert sum(reference.list_size.counts) == len(held_out)
    assert reference.tokens.counts[1] / sum(reference.tokens.counts) == pytest.approx(
        model.manifest.gate.trigger_rate, abs=1e-6
    )


async def test_other_lists_are_drift(trained_bundle: Path, held_out: list) -> None:
    """Lists of a third of the length: less to be unsure about, and likelier choices."""
    few = [
        {k: v[: len(v) // 3] if k.startswith("candidate") else v for k, v in inputs.items()}
        for inputs in held_out
    ]
    found = await indices(LoadedModel.open(trained_bundle), few)
    assert min(found[signal] for signal in ("entropy:all", "score:all", "list_size:all")) > 0.25


async def test_the_gauges_come_with_a_full_window(serve: Serve) -> None:
    async with serve(drift_window=3) as client:
        assert await client.metric("rerank_drift_window_lists") == 0
        for _ in range(3):
            assert "rerank_drift_psi{" not in (await client.get("/metrics")).text
            await client.rerank(ITEMS)
        assert await client.metric('rerank_drift_psi{position="all",signal="list_size"}') > 0
        assert await client.metric("rerank_drift_window_lists") == 3


@pytest.mark.parametrize("kept", ["none", "other bins"])
async def test_a_bundle_of_before_is_served_without(client: Client, kept: str) -> None:
    manifest = client.service.models.get().model.manifest
    reference = None if kept == "none" else tiny_reference().model_copy(update={"score": HALVES})
    gate = manifest.gate.model_copy(update={"reference": reference})
    metrics = Metrics()
    served = metrics.for_model(manifest.name, manifest.version)
    served.serving(manifest.model_copy(update={"gate": gate}), "cpu", "cpu", drift_window=1)
    served.list_size.observe(1)
    text = (await metrics.text()).decode()
    assert "rerank_drift_psi{" not in text
    assert 'rerank_model_loaded{model="eglr",version="1"} 1.0' in text
