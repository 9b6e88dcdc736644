"""A small real bundle, untrained but exported as any other, for tests that need something to serve."""

import random
import warnings
from pathlib import Path

import torch
from filelock import FileLock

from bundle.features.assembly import FeatureAssembler
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import fit
from bundle.features.schema import FeatureSchema, FieldSpec
from bundle.manifest import MANIFEST, Calibration, GateKind
from bundle.reference import ENTROPY_NATS, LIST_SIZES, SCORES, TRIGGERED, Distribution, Reference
from export.writer import Trained, write_bundle
from model.config import EncoderConfig, PolicyConfig, ReasonerConfig
from model.evaluator import ClickModel, build_evaluator
from model.policy import Policy
from model.sizes import feature_sizes
from model.training.config import EvaluatorConfig, RunConfig

THRESHOLDS: dict[GateKind, float] = {"normalised": 0.65, "raw": 2.0, "margin": 0.8}
"""Of the tiny policy, by what its gate compares."""

GENRES = ("drama", "comedy", "horror", "crime", "western")

SCHEMA = FeatureSchema(
    fields=(
        FieldSpec(name="price", kind="numeric", list_rank=True, affinity=True),
        FieldSpec(name="genres", kind="multivalued", max_values=3, affinity=True),
        FieldSpec(name="embedding", kind="vector", size=4, affinity=True),
        FieldSpec(name="taste", kind="vector", scope="user", size=4),
        FieldSpec(name="device", kind="categorical", scope="context"),
    ),
    initial_score=True,
)


def tiny_features(count: int = 200) -> FeatureAssembler:
    """Features of items `i0` to `i199`, or of so many."""
    rng = random.Random(0)
    items = {
        f"i{n}": {
            "price": rng.uniform(1, 100),
            "genres": rng.sample(GENRES, rng.randint(1, 3)),
            "embedding": [rng.gauss(0, 1) for _ in range(4)],
        }
        for n in range(count)
    }
    counts = {item_id: (rng.randint(0, 20), 40) for item_id in items}
    fitted = fit(
        SCHEMA,
        items=items.values(),
        users=[{}],
        contexts=[{"device": "ios"}, {"device": "web"}],
        timestamp=0.0,
        clicks=sum(clicks for clicks, _ in counts.values()),
        impressions=40 * len(counts),
    )
    return FeatureAssembler(fitted, Catalogue.build(fitted, items, counts))


def tiny_config(
    reasoner: str = "deep",
    layers: int = 0,
    decoder: str = "gru",
    attention: str = "full",
    gate: GateKind = "normalised",
    base_score: bool = False,
    evaluators: int = 1,
) -> RunConfig:
    """A configuration of the smallest policy worth exporting; `none` is one trained without reasoning."""
    reasoning = {"budget": 0} if reasoner == "none" else {"kind": reasoner}
    policy = PolicyConfig(
        width=16,
        decoder=decoder,
        base_score=base_score,
        encoder=EncoderConfig.model_validate(
            {"token_width": 4, "self_attention_layers": layers, "attention": attention}
        ),
        reasoner=ReasonerConfig.model_validate({**reasoning, "gate": gate, "initial_step": 0.5}),
    )
    evaluator = EvaluatorConfig(width=16, members=evaluators)
    return RunConfig(dataset="simulator", features=SCHEMA, policy=policy, evaluator=evaluator)


def tiny_policy(
    features: FeatureAssembler,
    reasoner: str = "deep",
    layers: int = 0,
    seed: int = 0,
    decoder: str = "gru",
    attention: str = "full",
    gate: GateKind = "normalised",
    base_score: bool = False,
) -> Policy:
    """An untrained policy whose logits are spread enough for the gate to have something to decide."""
    torch.manual_seed(seed)
    config = tiny_config(reasoner, layers, decoder, attention, gate, base_score)
    policy = Policy(config.policy, feature_sizes(features))
    with torch.no_grad():
        policy.encoder.pointer_keys.weight *= 8.0
        policy.encoder.pointer_bias.weight *= 4.0
    return policy.eval()


def tiny_evaluator(features: FeatureAssembler, members: int = 2, seed: int = 0) -> ClickModel:
    """Untrained, but far from giving every list the same value."""
    torch.manual_seed(seed)
    evaluator = build_evaluator(EvaluatorConfig(width=16), members, feature_sizes(features))
    with torch.no_grad():
        for network in evaluator.networks:
            network.click[3].weight *= 30.0  # type: ignore[operator]
    return evaluator.eval()


def tiny_reference() -> Reference:
    """Made up: nothing was held out."""
    rng = random.Random(1)
    return Reference(
        entropy=tuple(
            Distribution.of([rng.gauss(2, 1) for _ in range(500)], ENTROPY_NATS) for _ in range(10)
        ),
        tokens=Distribution.of([0] * 600 + [1] * 400, TRIGGERED),
        score=Distribution.of([rng.random() for _ in range(1000)], SCORES),
        list_size=Distribution.of([24] * 100, LIST_SIZES),
    )


def tiny_calibration(kind: GateKind = "normalised") -> Calibration:
    """Made up too, but for a threshold that random requests are on both sides of."""
    return Calibration(
        kind=kind,
        threshold=THRESHOLDS[kind],
        quantile=0.6,
        trigger_rate=0.4,
        tokens_per_list=4.0,
        entropy_by_position={"before": [1.0] * 10, "after": [1.0] * 10},
        reference=tiny_reference(),
    )


def build_tiny_bundle(
    directory: Path,
    reasoner: str = "deep",
    layers: int = 0,
    decoder: str = "gru",
    gate: GateKind = "normalised",
    base_score: bool = False,
    evaluators: int = 0,
) -> Path:
    """Write the bundle and return its directory."""
    features = tiny_features()
    policy = tiny_policy(features, reasoner, layers, decoder=decoder, gate=gate, base_score=base_score)
    config = tiny_config(
        reasoner, layers, decoder, gate=gate, base_score=base_score, evaluators=max(evaluators, 1)
    )
    evaluator = tiny_evaluator(features, evaluators) if evaluators else None
    write_bundle(Trained(config, policy, features, tiny_calibration(gate), {}, evaluator), directory, "1")
    return directory


class TinyBundles:
    """`tiny_bundles(decoder="lstm")`: the directory of a bundle with such a policy, exported the first time,
    which takes seconds. Processes share it, so they copy what they want to change."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(
        self,
        reasoner: str = "deep",
        layers: int = 0,
        decoder: str = "gru",
        gate: GateKind = "normalised",
        base_score: bool = False,
        evaluators: int = 0,
    ) -> Path:
        name = f"{reasoner}-{layers}-{decoder}-{gate}{'-base' * base_score}-{evaluators}"
        directory = self._root / name
        with FileLock(f"{directory}.lock"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's libraries warn of each other
            if not (directory / MANIFEST).exists():
                build_tiny_bundle(directory, reasoner, layers, decoder, gate, base_score, evaluators)
        return directory
