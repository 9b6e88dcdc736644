"""One command for whoever has a GPU: `python -m bench.accelerator --bundle DIR`, ten minutes, a report.

All of docs/accelerators.md that needs one: lists of the step path on CUDA against those of the CPU, with and
without fixed shapes and CUDA graphs, with rules for the list too; TensorRT's encoder and step against the
CPU's; what each takes. And of docs/training.md: an epoch of every phase of training and every search, on
CUDA against the CPU. Where there is no GPU the same runs on the CPU, as far as it can.

Exit codes: 0 all that one GPU can do was run on it, and agrees; 1 something differs or failed; 3 there is no
GPU or nothing that drives it, and the rest agrees.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.machine import ROOT, versions
from bench.training import Spent, Worked, launched
from bundle.arrays import Arrays, Named
from bundle.errors import RerankerError
from bundle.features.assembly import collate
from bundle.repository import locate
from engine.fixed_shapes import AXES, Bucket, FixedShapeRunner
from engine.generation import CONSTRAINTS, Controls, stack_controls
from engine.graphs import StepRunner, first_counters
from engine.loaded_model import LoadedModel
from engine.runner import Runner
from engine.sessions import PROVIDERS, ort
from engine.settings import Provider, SessionSettings
from evidence import pages
from export import parity, tensorrt
from export.provenance import commit, hardware
from model.progress import console

Row = dict[str, Any]
Batch = tuple[Arrays, Arrays]

FAILED, NO_GPU = 1, 3
TENSORRT = "TensorrtExecutionProvider"
KINDS = {**PROVIDERS, "tensorrt": TENSORRT}
SIZES = ((1, 50), (16, 50), (16, 200), (64, 200), (16, 1000))
"""Requests and candidates of what is timed."""
NEAR = 1e-3
OVER_NCCL = "training over NCCL, which takes two GPUs"
TRAINED_LISTS = 1500
"""Of the simulated log that is trained on."""
TRAINED_NEAR = 1e-3
"""Most that a weight may be apart after an epoch of each phase. Errors of 1e-6 of what every layer gives, put
in on the CPU, move one by up to 4e-4; other draws of dropout move some by more than 1e-2."""
UNFELT = {"encoder.pointer_bias.bias", "encoder.pointer_keys.bias"}
"""Biases that a softmax over candidates takes no notice of: their gradient is rounding alone."""


def gpus() -> list[str]:
    """What the driver calls them."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    run = subprocess.run(asked, capture_output=True, text=True, check=False)
    return run.stdout.strip().splitlines() if run.returncode == 0 else []


def gpu() -> str | None:
    """The first of them; None without one."""
    return next(iter(gpus()), None)


def runners(bundle: Path, model: LoadedModel, provider: Provider) -> dict[str, Callable[[], Runner]]:
    """Those of a provider, by what they are called in the report. CUDA graphs are CUDA's."""
    settings = SessionSettings(provider=provider)
    made: dict[str, Callable[[], Runner]] = {
        "step": lambda: StepRunner(bundle, model.manifest, settings),
        "fixed shapes": lambda: FixedShapeRunner(bundle, model.manifest, settings),
    }
    if provider == "cuda":
        made["CUDA graphs"] = lambda: FixedShapeRunner(bundle, model.manifest, settings, captured=True)
    return made


def batches(model: LoadedModel) -> dict[tuple[int, int], Batch]:
    """Of one size each, decoded greedily as the bundle was calibrated."""
    made = {}
    for requests, candidates in SIZES:
        of = parity.random_requests(model.features, model.manifest, requests, seed=2, sizes=(candidates,))
        arrays = [one for one, _ in of]
        lengths = [len(one["candidate_numeric"]) for one in arrays]
        controls = [
            Controls.default(model.manifest, min(model.manifest.slate_length, length)) for length in lengths
        ]
        made[requests, lengths[0]] = collate(arrays), stack_controls(controls, lengths)
    return made


def took_ms(runner: Runner, batch: Batch, seconds: float) -> Row:
    """The median, and what the first run took, which builds what is missing."""
    started = perf_counter()
    records = runner.run(*batch)
    first, found = perf_counter() - started, list[float]()
    while sum(found) < seconds or len(found) < 3:
        started = perf_counter()
        runner.run(*batch)
        found.append(perf_counter() - started)
    return {
        "steps": len(records["chosen"]),
        "first_ms": round(1000 * first, 2),
        "batch_ms": round(1000 * float(np.median(found)), 3),
    }


def tried(what: str, run: Callable[[], Row]) -> Row:
    """A row of the report, whatever happens."""
    try:
        row = {"what": what, **run()}
    except Exception as error:  # a report that ends here would not tell the rest
        row = {"what": what, "agrees": False, "error": f"{type(error).__name__}: {error}"[:500]}
    console.print(row)
    return row


def lists_agree(reference: Runner, made: Callable[[], Runner], requests: Sequence[parity.Request]) -> Row:
    found = parity.compare(reference, made(), requests)
    return {
        "agrees": found.agreement >= parity.SMALLEST_AGREEMENT,
        "lists": found.lists,
        "identical": found.identical,
    }


def in_fixed_shapes(graph: Path, provider: str, bucket: Bucket, inputs: Named) -> Arrays:
    """Outputs of a graph by one provider. Raises: RuntimeError: it is not active."""
    options = ort.SessionOptions()
    for axis, size in bucket._asdict().items():
        options.add_free_dimension_override_by_name(axis, size)
    session = ort.InferenceSession(graph, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} is not active")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def tensorrt_agrees(bundle: Path, batch: Batch) -> Row:
    """The encoder's outputs, and those of the first step, by TensorRT and by the CPU."""
    bucket = Bucket.of(*batch)
    controls = {name: array for name, array in batch[1].items() if name != CONSTRAINTS}
    inputs, furthest = bucket.padded(batch[0], AXES), 0.0
    given = inputs
    for name in tensorrt.GRAPHS:
        expected, found = (
            in_fixed_shapes(bundle / name, provider, bucket, given)
            for provider in (PROVIDERS["cpu"], TENSORRT)
        )
        for output, array in expected.items():
            if array.dtype.kind == "f":
                furthest = max(furthest, float(np.max(np.abs(array - found[output]))))
            elif (array != found[output]).any():
                raise RuntimeError(f"{name}: {output} differs")
        given = {**expected, **bucket.padded(controls, AXES), **first_counters(inputs["candidate_mask"])}
    return {"agrees": furthest < NEAR, "furthest": furthest}


def trainings(count: int) -> tuple[list[Row], dict[str, dict[str, Spent]]]:
    """Every training that so many GPUs allow beside that of one process on the CPU: what they came to, and
    what each part of each took."""
    asked = [(2, "cpu"), *([(1, "cuda")] if count else []), *([(2, "cuda")] if count > 1 else [])]
    alone = launched(1, "cpu", TRAINED_LISTS)
    rows, spent = list[Row](), {"cpu": alone.spent}
    for processes, device in asked:
        called = f"{device}, 2 processes" if processes > 1 else device

        def beside(processes: int = processes, device: str = device, called: str = called) -> Row:
            worked = launched(processes, device, TRAINED_LISTS)
            spent[called] = worked.spent
            return came_to_the_same(alone, worked)

        rows.append(tried(f"training: {called}", beside))
    return rows, spent


def came_to_the_same(one: Worked, other: Worked) -> Row:
    """How far the weights of each phase are apart, and the share of the lists of each search that are not."""
    apart = {
        part: float(
            np.max(
                [(weights[name] - other.weights[part][name]).abs().max() for name in weights.keys() - UNFELT]
            )
        )
        for part, weights in one.weights.items()
    }
    identical = {
        part: float(np.mean([own == theirs for own, theirs in zip(lists, other.lists[part], strict=True)]))
        for part, lists in one.lists.items()
    }
    near = all(gap < TRAINED_NEAR for gap in apart.values())
    agrees = near and min(identical.values()) >= parity.SMALLEST_AGREEMENT
    return {"agrees": agrees, **{part: f"{gap:.1e}" for part, gap in apart.items()}, **identical}


def measure(bundle: Path, lists: int, seconds: float) -> Row:
    """Everything; `left_out` says what there was no device for."""
    model = LoadedModel.open(bundle)
    reference = StepRunner(bundle, model.manifest, SessionSettings())
    plain = parity.random_requests(model.features, model.manifest, lists)
    ruled = parity.constrained_requests(model.features, model.manifest, lists)
    available = ort.get_available_providers()
    on_gpu = {kind for kind in ("cuda", "tensorrt") if gpu() and KINDS[kind] in available}
    providers: list[Provider] = ["cpu", "cuda"] if "cuda" in on_gpu else ["cpu"]
    rows, times = list[Row](), list[Row]()
    timed = batches(model)
    for provider in providers:
        for name, made in runners(bundle, model, provider).items():
            called = f"{name}, {provider}"
            for what, requests in (("lists", plain), ("lists with rules", ruled)):
                agree = partial(lists_agree, reference, made, requests)
                rows.append(tried(f"{what}: {called}", agree))
            runner = made() if "error" not in rows[-1] else None
            for (count, candidates), batch in timed.items() if runner else ():
                size = {"requests": count, "candidates": candidates}
                times.append({"path": called, **size, **took_ms(runner, batch, seconds)})
    for graph, problems in tensorrt.check(bundle, Bucket(16, 64, 64, 1)).items():
        rows.append(
            {"what": f"TensorRT's list of operators: {graph}", "agrees": not problems, "problems": problems}
        )
    if "tensorrt" in on_gpu:
        rows.append(tried("TensorRT's outputs", lambda: tensorrt_agrees(bundle, next(iter(timed.values())))))
    trained, spent = trainings(len(gpus()))
    rows += trained
    left_out = [] if gpu() else ["training on CUDA"]
    if len(gpus()) < 2:
        left_out.append(OVER_NCCL)
    if "cuda" not in on_gpu:
        left_out += ["lists and times of CUDA, with and without fixed shapes", "CUDA graphs"]
    if "tensorrt" not in on_gpu:
        left_out.append("TensorRT")
    found = {"gpu": gpu(), "providers": available, "checks": rows, "times": times, "left_out": left_out}
    return {**found, "training_s": spent}


def report(found: Row) -> str:
    """As Markdown."""
    checks = [
        (
            row["what"],
            "yes" if row["agrees"] else "**no**",
            row.get("error")
            or ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("what", "agrees")),
        )
        for row in found["checks"]
    ]
    times = [tuple(row.values()) for row in found["times"]]
    header = ("path", "requests", "candidates", "micro-steps", "first ms", "batch ms")
    alone, *_ = found["training_s"].values()
    trained = [
        (part, *(f"{Spent(*of[part]).wall_s:.1f}" for of in found["training_s"].values())) for part in alone
    ]
    return (
        "\n\n".join(
            [
                f"GPU: {found['gpu'] or 'none was found'}. {found['hardware']}; commit {found['commit']}.",
                "Providers of ONNX Runtime: " + ", ".join(found["providers"]) + ".",
                *(["Not run: " + "; ".join(found["left_out"]) + "."] if found["left_out"] else []),
                pages.table(("check", "agrees", "figures"), checks),
                pages.table(header, times),
                pages.table(("training, s", *found["training_s"]), trained),
            ]
        )
        + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.accelerator", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"))
    parser.add_argument("--output", type=Path, default=ROOT / "reports/accelerator")
    parser.add_argument("--lists", type=int, default=1000, help="compared on each path")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing")
    arguments = parser.parse_args()
    if arguments.lists < 1 or not arguments.seconds > 0:
        parser.error("--lists and --seconds: expected more than 0")
    try:
        found = measure(locate(arguments.bundle), arguments.lists, arguments.seconds)
    except RerankerError as error:
        print(error, file=sys.stderr)
        return FAILED
    found |= {
        "hardware": hardware(),
        "commit": commit(),
        "versions": {**versions(), "onnxruntime": ort.__version__},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (arguments.output / "report.md").write_text(report(found))
    console.print(f"{arguments.output}/report.md, report.json")
    if not all(row["agrees"] for row in found["checks"]):
        console.print("Something differs: see the report.")
        return FAILED
    left_out = "; ".join(found["left_out"])
    if set(found["left_out"]) - {OVER_NCCL}:
        console.print(f"Not run, for want of a GPU or of what drives it: {left_out}. The rest agrees.")
        return NO_GPU
    console.print("All was run on a GPU, and agrees." + (f" But for {left_out}." if left_out else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
