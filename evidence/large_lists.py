"""Quality and cost of the encoders on long lists: `python -m evidence.large_lists`.

One simulated world a seed, with lists of every length in it. Every encoder imitates, for equally many
updates, the lists that a beam search of the true click model finds; the epoch is chosen on validation lists.
Then the true value of the test lists, by length, and milliseconds per list. Finished fits are kept, so that a
second call only repeats the timing: run that when nothing else runs.

Legend: N candidates.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from bundle.features.assembly import collate
from bundle.manifest import Calibration
from engine.generation import Controls, stack_controls
from engine.loaded_model import LoadedModel
from engine.settings import Decoding, SessionSettings
from evidence.data import CONFIGS
from evidence.figures import BLUE, GREY, RED
from evidence.results import RESULTS, difference
from export.provenance import commit, hardware
from export.writer import Trained, write_bundle
from model.data.features import DatasetFeatures
from model.data.simulator import World, item_numbers, load
from model.data.slate import Dataset, LoggedSlate, Split
from model.policy import Policy
from model.progress import console, progress
from model.sizes import feature_sizes
from model.training.calibration import calibrate
from model.training.checkpoint import save_tensors, save_text
from model.training.config import RunConfig, read_config, with_changes
from model.training.decoding import decode
from model.training.examples import Example, examples
from model.training.fit_policy import imitate
from model.training.phase import RunLog
from model.training.rollout import threshold_gate
from model.training.selection import held_out_score

CONFIG = CONFIGS / "large-lists.toml"
ENCODERS: dict[str, dict[str, Any]] = {
    "light": {"self_attention_layers": 0},
    "inducing": {"attention": "inducing", "self_attention_layers": 2},
    "full": {"attention": "full", "self_attention_layers": 2},
}
"""Changes to the configuration's encoder, by name."""

RECOMMENDED, REFERENCE = "light", "full"
TIMED = (24, 50, 200, 500, 1000, 2000)
BEAMS = 4
LONG, LONG_SHARE, HELD_OUT_SHARE = 500, 4, 2
"""Of lists with at least LONG candidates, every fourth training list and every second validation list is
used, so that a fit takes minutes."""

LISTS, ROUNDS = 8, 8
DECODINGS: tuple[Decoding, ...] = ("graph", "native")
COLOURS = {"light": GREY, "inducing": RED, "full": BLUE}

Values = dict[str, NDArray[np.float32]]
Milliseconds = dict[Decoding, dict[str, dict[int, float]]]


class Seed(NamedTuple):
    """One world, made ready for all encoders."""

    config: RunConfig
    world: World
    dataset: Dataset  # without the lists that are left out
    features: DatasetFeatures
    taught: list[Example]  # training lists with the oracle's slate in the place of what was shown
    held_out: list[Example]
    test: list[Example]


def open_seed(config: RunConfig, seed: int) -> Seed:
    config = with_changes(config, {"seed": seed, "simulator": {"seed": seed}})
    world, dataset = World(config.simulator), load(config.simulator)
    world.log()  # this is where its users come from
    features = DatasetFeatures.fit(dataset, config.features)
    train = [s for n, s in enumerate(dataset.slates["train"]) if len(s.labels) < LONG or n % LONG_SHARE == 0]
    slates: dict[Split, list[LoggedSlate]] = {
        "train": train,
        "validation": list(dataset.slates["validation"][::HELD_OUT_SHARE]),
        "test": list(dataset.slates["test"]),
    }
    shown = oracle(world, train, config)
    return Seed(
        config,
        world,
        replace(dataset, slates=slates),
        features,
        [
            row._replace(shown=np.array(slate))
            for row, slate in zip(examples(train, features, training=True), shown, strict=True)
        ],
        examples(slates["validation"], features, training=False),
        examples(slates["test"], features, training=False),
    )


def lengths_of(config: RunConfig) -> tuple[int, ...]:
    """The numbers of candidates that the world's lists have."""
    asked = config.simulator.candidates
    return asked if isinstance(asked, tuple) else (asked,)


def oracle(world: World, slates: list[LoggedSlate], config: RunConfig) -> list[list[int]]:
    """The lists a beam search that knows the click model finds."""
    length = config.policy.slate_length
    return [
        world.beam(slate.user_id, item_numbers(slate), length, BEAMS)
        for slate in progress(slates, "beam search of the click model")
    ]


def references(data: Seed) -> Values:
    """True values of what needs no training, by name."""
    slates, length = data.dataset.slates["test"], data.config.policy.slate_length
    by_relevance = [
        np.argsort(-data.world.relevance(slate.user_id, item_numbers(slate)))[:length].tolist()
        for slate in slates
    ]
    found = {"relevance sort": by_relevance, "beam-4 oracle": oracle(data.world, list(slates), data.config)}
    return {name: _worth(data, orders) for name, orders in found.items()}


def fit(data: Seed, encoder: str, directory: Path) -> NDArray[np.float32]:
    """Train, and the true value of each test list. Leaves the policy and its configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    config = with_changes(data.config, {"policy": policy_changes(data.config, encoder)})
    torch.manual_seed(config.seed)
    policy, log = Policy(config.policy, feature_sizes(data.features.serving)), RunLog(directory)
    imitate(
        config,
        directory,
        log,
        policy,
        data.taught,
        data.held_out,
        held_out_score(data.dataset),
        score_before=None,
    )
    log.close()
    gate = calibrate(policy, data.held_out, config.policy.reasoner.gate_quantile)
    rollouts = decode(policy, data.test, threshold_gate(gate.threshold))
    orders = [slate.tolist() for rollout in rollouts for slate in rollout.slates()]
    save_text(directory / "config.json", config.model_dump_json(indent=1))
    save_text(directory / "gate.json", gate.model_dump_json(indent=1))
    save_tensors(directory / "policy.pt", policy.state_dict())
    return _worth(data, orders)


def policy_changes(config: RunConfig, encoder: str) -> dict[str, Any]:
    return {"encoder": {**config.policy.encoder.model_dump(), **ENCODERS[encoder]}}


def all_fits(config: RunConfig, seeds: list[int], root: Path) -> Values:
    """True value of every test list by `encoder|seed|N`, references among the encoders."""
    values: Values = {}
    for seed in seeds:
        path = root / str(seed)
        data: Seed | None = None
        for name in ("references", *ENCODERS):
            finished = path / name / "values.npz"
            if not finished.exists():
                data = data or open_seed(config, seed)
                console.print(f"[bold]seed {seed}, {name}[/]")
                started = time.monotonic()
                found = references(data) if name == "references" else {name: fit(data, name, path / name)}
                lengths = np.array([len(row.labels) for row in data.test])
                finished.parent.mkdir(parents=True, exist_ok=True)
                np.savez(
                    finished,
                    **{
                        f"{who}|{seed}|{n}": worth[lengths == n]
                        for who, worth in found.items()
                        for n in lengths_of(data.config)
                    },
                )
                console.print(f"seed {seed}, {name}: {time.monotonic() - started:.0f} s")
            with np.load(finished) as kept:
                values |= dict(kept)
    return values


def timings(config: RunConfig, root: Path, timed: tuple[int, ...] = TIMED) -> Milliseconds:
    """Median milliseconds per list by decoding, encoder and N: the policies of a seed as they are served, one
    list per call, one thread, taking turns on the same lists. CPU time of that thread is counted."""
    sizes = {**config.simulator.model_dump(), "lists": 2 * LISTS * len(timed), "candidates": timed}
    dataset = load(config.simulator.model_validate(sizes))
    features = DatasetFeatures.fit(dataset, config.features)
    rows = examples(dataset.slates["train"], features, training=False)
    times: Milliseconds = {way: {name: {} for name in ENCODERS} for way in DECODINGS}
    with tempfile.TemporaryDirectory() as directory:
        models = {
            (way, name): LoadedModel.open(bundle, SessionSettings(decoding=way))
            for name in ENCODERS
            for bundle in [_served(root / name, features, Path(directory) / name)]
            for way in DECODINGS
        }
        for n in timed:
            lists = [collate([row.inputs]) for row in rows if len(row.labels) == n][:LISTS]
            samples: dict[tuple[Decoding, str], list[float]] = {key: [] for key in models}
            for turn in range(ROUNDS + 1):
                for key, model in models.items():
                    own = Controls.default(model.manifest, config.policy.slate_length)
                    for inputs in lists:
                        controls = stack_controls([own], [n])
                        started = time.thread_time()
                        model.runner.run(inputs, controls)
                        if turn:  # the first warms up
                            samples[key].append(time.thread_time() - started)
            for (way, name), taken in samples.items():
                times[way][name][n] = round(1000.0 * float(np.median(taken)), 3)
    return times


def _served(fitted: Path, features: DatasetFeatures, bundle: Path) -> Path:
    """The fitted policy as a bundle."""
    config = RunConfig.model_validate_json((fitted / "config.json").read_text())
    policy = Policy(config.policy, feature_sizes(features.serving))
    policy.load_state_dict(torch.load(fitted / "policy.pt", weights_only=True))
    gate = Calibration.model_validate_json((fitted / "gate.json").read_text())
    write_bundle(Trained(config, policy, features.serving, gate, {}), bundle)
    return bundle


def report(values: Values, times: Milliseconds, config: RunConfig, seeds: list[int]) -> dict[str, Any]:
    """All results, as they are stored with the project."""

    def keys(who: str, n: int) -> list[str]:
        return [f"{who}|{seed}|{n}" for seed in seeds]

    quality = []
    for who in ("relevance sort", *ENCODERS, "beam-4 oracle"):
        for n in lengths_of(config):
            row: dict[str, Any] = {
                "lists_by": who,
                "n": n,
                "test_lists": sum(len(values[key]) for key in keys(who, n)),
                "true_value": float(np.mean([values[key].mean() for key in keys(who, n)])),
            }
            if who in ENCODERS and who != REFERENCE:
                row[f"minus_{REFERENCE}"] = difference(values, keys(who, n), keys(REFERENCE, n))._asdict()
            quality.append(row)
    growth = {
        way: {name: round(found[1000] / found[50], 2) for name, found in by_encoder.items()}
        for way, by_encoder in times.items()
    }
    return {
        "command": "python -m evidence.large_lists",
        "commit": commit(),
        "hardware": hardware(),
        "seeds": seeds,
        "epochs": config.imitation.epochs,
        "recommended": RECOMMENDED,
        "growth": growth,
        "p50_ms": times,
        "quality": quality,
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Quality and milliseconds over N."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    worth = {(row["lists_by"], row["n"]): row for row in found["quality"]}
    lengths = sorted({n for _, n in worth})
    for shift, name in ((0.97, "light"), (1.03, "inducing")):
        gaps = [worth[name, n][f"minus_{REFERENCE}"] for n in lengths]
        shares = 100 / np.array([worth[REFERENCE, n]["true_value"] for n in lengths])
        means, lows, highs = (
            shares * np.array([gap[key] for gap in gaps]) for key in ("mean", "low", "high")
        )
        left.errorbar(
            shift * np.array(lengths),
            means,
            (means - lows, highs - means),
            fmt="o-",
            color=COLOURS[name],
            label=name,
        )
    left.axhline(0, color=COLOURS[REFERENCE], label=REFERENCE)
    left.set(xscale="log", xlabel="candidates N", ylabel="true value against full attention, %")
    for way, line in (("graph", "o-"), ("native", "o:")):
        for name, times in found["p50_ms"][way].items():
            places = [int(n) for n in times]
            right.plot(places, list(times.values()), line, color=COLOURS[name], label=f"{name}, {way}")
    right.set(xscale="log", yscale="log", xlabel="candidates N", ylabel="ms a list, one thread, p50")
    for axes, ticks in ((left, lengths), (right, [int(n) for n in found["p50_ms"]["graph"][REFERENCE]])):
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    ticks = [1, 2, 5, 10, 20, 50]
    right.set_yticks(ticks, [str(tick) for tick in ticks])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _worth(data: Seed, orders: list[list[int]]) -> NDArray[np.float32]:
    pairs = zip(data.dataset.slates["test"], orders, strict=True)
    return np.array([data.world.value_of(slate, order) for slate, order in pairs], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.large_lists", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--runs", type=Path, default=Path("runs/large_lists"), help="where fits are kept")
    parser.add_argument("--fits-only", action="store_true", help="stop after the fits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds: list[int] = arguments.seeds
    config = with_changes(read_config(CONFIG), {"imitation": {"epochs": arguments.epochs}})
    values = all_fits(config, seeds, arguments.runs)
    if arguments.fits_only:
        return
    found = report(values, timings(config, arguments.runs / str(seeds[0])), config, seeds)
    save_text(RESULTS / "large_lists.json", json.dumps(found, indent=1) + "\n")
    draw(found, Path("docs/images/large-lists.png"))
    console.print(json.dumps({key: found[key] for key in ("growth", "p50_ms")}, indent=1))


if __name__ == "__main__":
    main()
