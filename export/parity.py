"""PyTorch against ONNX Runtime over whole rollouts: `python -m export.parity BUNDLE`.

The same requests go through the policy in PyTorch, the slate graph and the host-driven step graph, in
batches of several sizes with several N, K and paddings, and with random thresholds, budgets,
temperatures, sampling and constraints. Compared are the chosen lists with their propensities, the reasoning
tokens at every position, and the logits as long as the lists agree. One step that agrees proves nothing about
a list.

Legend: B requests, N candidates, K slate length, M micro-steps.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named
from bundle.contract import CONTROLS, LOGITS, NO_ITEM, RECORD, UNLIMITED_MICRO_STEPS, StepControls
from bundle.errors import RerankerError, faults_told
from bundle.features.assembly import Candidates, FeatureAssembler, collate
from bundle.features.history import Interaction, UserContext
from bundle.manifest import Manifest
from bundle.repository import locate
from constraints.tracking import Tracker
from engine.generation import CONSTRAINTS, GREEDY, Controls, Times, stack_controls
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.native.runner import NativeRunner, decodes_natively
from engine.runner import Runner
from engine.settings import Decoding, SessionSettings
from export.evaluator_parity import compare_values, count_identical
from export.random_constraints import constrained
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.policy import Policy
from model.progress import console, progress
from model.training.checkpoint import load_config, load_evaluator, load_policy

Request = tuple[Arrays, Controls]

BATCH_SIZES = (1, 3, 8, 32)
SMALLEST_AGREEMENT = 0.999
SIZES, LONG_SIZES = (1, 2, 5, 10, 24, 50, 100), (24, 500, 1000, 2000)
"""Candidates of random requests, as far as the catalogue has as many; long lists are slow to compare."""

LARGEST_PROPENSITY_DIFFERENCE = 1e-3

LOOKED_AHEAD, LARGEST_VALUE_DIFFERENCE = 20, 1e-3
"""One of so many lists is compared looking ahead too, for that is many lists by the step graph."""


class ParityError(RerankerError):
    """The exported graphs do not do what the policy does."""


class TorchRunner:
    """The policy in PyTorch behind the interface of the engine's runners."""

    provider = "torch"
    decoding: Decoding = "step"
    tells_greedy = True

    def __init__(self, policy: Policy) -> None:
        self.policy = policy.eval()

    @torch.no_grad()
    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        step = StepControls(*(torch.from_numpy(controls[spec.name]) for spec in CONTROLS))
        memory = self.policy.encode(tensors)
        state = self.policy.begin(memory, tensors["candidate_mask"])
        rows = []
        tracker, left = Tracker(controls[CONSTRAINTS]), inputs["candidate_mask"].copy()
        while bool((state.position < step.slate_length).any()):
            if tracker.constrains:
                state = state._replace(selectable=torch.from_numpy(tracker.narrowed(left)))
            state, record, logits = self.policy.micro_step(state, step, memory)
            tracker.place(record.chosen.numpy(), left)
            rows.append((*record, logits))
        names = [*(spec.name for spec in RECORD), LOGITS.name]
        columns = zip(*rows, strict=True)
        return {name: torch.stack(column).numpy() for name, column in zip(names, columns, strict=True)}


@dataclass(frozen=True)
class Parity:
    """How far an exported path agrees with PyTorch.

    Attributes:
        lists: lists compared.
        identical: lists with the same items, propensities and reasoning tokens at every position.
        difference: largest absolute difference of a selectable candidate's logit, over all micro-steps up to
            where a list stops agreeing, NaN where the path gives no logits; or of a list's value.
    """

    lists: int
    identical: int
    difference: float

    @property
    def agreement(self) -> float:
        return self.identical / self.lists

    def check(self, path: str) -> None:
        """Raises ParityError when too few lists agree."""
        if self.agreement < SMALLEST_AGREEMENT:
            raise ParityError(
                f"{path}: {self.identical} of {self.lists} lists are identical to PyTorch's, "
                f"at least {SMALLEST_AGREEMENT:.1%} must be"
            )


def compare(reference: Runner, runner: Runner, requests: Sequence[Request]) -> Parity:
    """Run the same batches through both."""
    identical, difference = 0, float("nan")
    sizes = _cycle(BATCH_SIZES)
    start = 0
    while start < len(requests):
        batch = requests[start : start + next(sizes)]
        start += len(batch)
        inputs = collate([arrays for arrays, _ in batch])
        candidates = [len(arrays["candidate_numeric"]) for arrays, _ in batch]
        controls = stack_controls([control for _, control in batch], candidates)
        expected, found = reference.run(inputs, controls), runner.run(inputs, controls)
        steps = min(len(expected["chosen"]), len(found["chosen"]))
        chosen = expected["chosen"][:steps]
        same = (chosen == found["chosen"][:steps]) & (
            expected["reasoned"][:steps] == found["reasoned"][:steps]
        )  # [M, B]
        placed = (chosen != NO_ITEM) & (found["chosen"][:steps] != NO_ITEM)  # elsewhere nothing was written
        propensities = expected["propensity"][:steps], found["propensity"][:steps]
        apart = np.subtract(*propensities, out=np.zeros_like(propensities[0]), where=placed)
        as_drawn = np.abs(apart) < LARGEST_PROPENSITY_DIFFERENCE
        if GREEDY in found:
            as_drawn &= expected[GREEDY][:steps] == found[GREEDY][:steps]
        alike = same & ((chosen == NO_ITEM) | as_drawn)
        same_length = len(expected["chosen"]) == len(found["chosen"])
        identical += int((alike.all(axis=0) & same_length).sum())
        if LOGITS.name in expected and LOGITS.name in found:
            gap = np.abs(expected[LOGITS.name][:steps] - found[LOGITS.name][:steps])
            agreed_before = np.cumprod(np.vstack([np.ones(len(batch), bool), same[:-1]]), axis=0)
            gap *= agreed_before[:, :, None] * _selectable(
                expected["chosen"][:steps], inputs["candidate_mask"], controls["slate_length"]
            )
            difference = float(np.nanmax([difference, gap.max()]))
    return Parity(len(requests), identical, difference)


def _selectable(
    chosen: NDArray[np.int64], mask: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which candidates are left at each micro-step, none where the slate is full.

    `[M, B]`, `[B, N] bool`, `[B]` -> `[M, B, N] bool`.
    """
    left = np.repeat(mask[None], len(chosen), axis=0)
    for step, row in zip(*np.nonzero(chosen != NO_ITEM), strict=True):
        left[step + 1 :, row, chosen[step, row]] = False
    written = (chosen != NO_ITEM).cumsum(axis=0)
    full = np.vstack([np.zeros_like(lengths), written[:-1]]) >= lengths
    left[full] = False
    return left


def random_requests(
    features: FeatureAssembler,
    manifest: Manifest,
    count: int,
    seed: int = 0,
    sizes: tuple[int, ...] = SIZES,
) -> list[Request]:
    """Requests with random candidates, histories and controls."""
    rng = np.random.default_rng(seed)
    (scoring,) = rng.spawn(1)
    ids = np.array(features.catalogue.ids)
    requests = []
    for _ in range(count):
        n = int(min(rng.choice(sizes), len(ids)))
        events = rng.choice(ids, size=min(int(rng.integers(0, 40)), len(ids)), replace=False)
        types = rng.choice(["impression", *features.schema.positive_types], size=len(events))
        history = tuple(Interaction(str(i), str(t)) for i, t in zip(events, types, strict=True))
        listed = [str(i) for i in rng.choice(ids, size=n, replace=False)]
        candidates = Candidates(listed, scores=random_scores(scoring, n))
        arrays = features.request(candidates, UserContext(history=history), {}, timestamp=1.7e9)
        requests.append((arrays, random_controls(rng, manifest, n)))
    return requests


def constrained_requests(features: FeatureAssembler, manifest: Manifest, count: int) -> list[Request]:
    """Random requests with constraints on four of five."""
    rng = np.random.default_rng(1)
    return [
        (arrays, constrained(rng, controls, len(arrays["candidate_numeric"])) if n % 5 else controls)
        for n, (arrays, controls) in enumerate(random_requests(features, manifest, count, seed=1))
    ]


def random_scores(rng: np.random.Generator, candidates: int) -> list[float] | None:
    """Scores with ties, outliers and gaps; none in a quarter of the lists."""
    if rng.random() < 0.25:
        return None
    scores = np.round(rng.standard_t(2, candidates), 1)
    scores[rng.random(candidates) < rng.choice([0.0, 0.3])] = np.nan
    return list(scores.tolist())


def random_controls(rng: np.random.Generator, manifest: Manifest, candidates: int) -> Controls:
    """Controls as far from the default as a request may set them."""
    length = int(rng.integers(1, min(candidates, 2 * manifest.slate_length) + 1))
    return replace(
        Controls.default(manifest, length),
        entropy_threshold=float(manifest.gate.threshold * rng.uniform(0.8, 1.1)),
        reasoning_budget=int(rng.integers(0, 5)),
        reasoning_temperature=float(rng.uniform(0.5, 3.0)),
        selection_temperature=float(rng.uniform(0.3, 2.0)),
        seed=int(rng.integers(1 << 30)) if rng.random() < 0.5 else None,
        micro_step_budget=(
            int(length + rng.integers(0, 10)) if rng.random() < 0.3 else UNLIMITED_MICRO_STEPS
        ),
    )


def real_requests(bundle: Path, features: FeatureAssembler, manifest: Manifest, count: int) -> list[Request]:
    """Lists of the bundle's own dataset, test split first, with the default controls.

    Raises:
        DataUnavailableError: the dataset is unavailable.
    """
    dataset = open_dataset(load_config(bundle))
    reader = DatasetFeatures(features)
    slates = [*dataset.slates["test"], *dataset.slates["validation"]][:count]
    return [
        (
            reader.arrays(slate, training=False),
            Controls.default(manifest, min(manifest.slate_length, len(slate.candidates))),
        )
        for slate in progress(slates, "features of real lists")
    ]


def check_bundle(bundle: Path, random: int, real: int) -> dict[str, Parity]:
    """Compare every exported path with PyTorch, on random and on real lists.

    Raises:
        ParityError: an exported path agrees on less than `SMALLEST_AGREEMENT` of the lists.
    """
    bundle = locate(bundle)
    model = LoadedModel.open(bundle)
    reference = TorchRunner(load_policy(bundle, model.features))
    paths: dict[str, Runner] = {
        "slate graph": SlateRunner(bundle, model.manifest, SessionSettings()),
        "step graph": StepRunner(bundle, model.manifest, SessionSettings(), inspect=(LOGITS.name,)),
    }
    if decodes_natively(model.manifest):
        paths["native"] = NativeRunner(bundle, model.manifest, model.features, SessionSettings())
    requests = {
        "random": random_requests(model.features, model.manifest, random),
        "constrained": constrained_requests(model.features, model.manifest, max(random // 4, 1)),
        "long": random_requests(model.features, model.manifest, max(random // 40, 1), sizes=LONG_SIZES),
    }
    if real:
        requests["real"] = real_requests(bundle, model.features, model.manifest, real)
    results = {}
    for kind, rows in requests.items():
        for path, runner in paths.items():
            results[f"{path}, {kind}"] = result = compare(reference, runner, rows)
            logits = (
                "" if np.isnan(result.difference) else (f", largest logit difference {result.difference:.2e}")
            )
            console.print(
                f"{path}, {kind} lists: {result.identical} of {result.lists} identical "
                f"({result.agreement:.2%}){logits}"
            )
            result.check(f"{path}, {kind} lists")
    if model.manifest.has_evaluator:
        listed = [arrays for arrays, _ in requests.get("real", requests["random"])][::LOOKED_AHEAD]
        results |= check_lookahead(bundle, reference.policy, listed)
    return results


def check_lookahead(bundle: Path, policy: Policy, requests: Sequence[Arrays]) -> dict[str, Parity]:
    """Compare lookahead with PyTorch's, as it is served and by the graphs.

    Raises:
        ParityError: lists or their values are others.
    """
    results = {}
    for settings in (SessionSettings(), SessionSettings(decoding="step")):
        model = LoadedModel.open(bundle, settings)
        evaluator = load_evaluator(bundle, model.features)
        path = f"lookahead, {settings.decoding}"
        difference = compare_values(evaluator, model, requests)
        identical = count_identical(policy, evaluator, model, requests)
        results[path] = result = Parity(len(requests), identical, difference)
        console.print(
            f"{path}: {identical} of {len(requests)} identical ({result.agreement:.2%}), largest difference "
            f"of a list's value {difference:.2e}"
        )
        if not difference <= LARGEST_VALUE_DIFFERENCE:
            raise ParityError(f"{path}: a list's value is {difference:.2e} from PyTorch's")
        result.check(path)
    return results


def _cycle(sizes: Sequence[int]) -> Iterator[int]:
    while True:
        yield from sizes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.parity", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--random", type=int, default=2000, help="random lists to compare")
    parser.add_argument("--real", type=int, default=1000, help="lists of the bundle's dataset to compare")
    arguments = parser.parse_args()
    with faults_told():
        check_bundle(arguments.bundle, arguments.random, arguments.real)


if __name__ == "__main__":
    main()
