"""What writes slates for a batch, and which of them a bundle gets.

All take the same inputs and return the same records: the graphs (`engine.graphs`) and compiled code
(`engine.native`). Legend: B requests, M micro-steps.
"""

from pathlib import Path
from typing import Protocol

from bundle.arrays import Arrays, Named
from bundle.features.assembly import FeatureAssembler
from bundle.manifest import EVALUATE, Manifest
from engine.allocator import keep_freed
from engine.generation import Times
from engine.graphs import EvaluatorGraphs, SlateRunner, StepRunner, StepWriter
from engine.lookahead import Lookahead, Writer
from engine.native.evaluator import NativeEvaluator
from engine.native.runner import NativeRunner, decodes_natively
from engine.settings import Decoding, SessionSettings


class Runner(Protocol):
    """Writes slates for a batch.

    Attributes:
        tells_greedy: its records have `greedy`, which those of graphs in older bundles lack.
    """

    provider: str
    decoding: Decoding
    tells_greedy: bool

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        """Run a batch to the end of every slate, or to its deadline.

        Args:
            inputs: one array for each of `ENCODER_INPUTS`.
            controls: one array for each of `CONTROLS`, and `generation.CONSTRAINTS`.
            times: when to stop reasoning, and when to stop, for runners that see a clock. The slate graph
                has only the micro-step budget among the controls.

        Returns:
            One array for each of `RECORD`, stacked over micro-steps: `[M, B]`.
        """
        ...


def open_runner(
    bundle: Path, manifest: Manifest, features: FeatureAssembler, settings: SessionSettings
) -> Runner:
    """The runner that the settings ask for.

    `auto` takes, on the CPU, native decoding where the bundle has what it needs, else the slate graph; on a
    device the step path, because control flow is not supported there.

    Raises:
        BundleError: the bundle cannot be decoded that way.
    """
    keep_freed(settings.keep_freed_mib)
    decoding = settings.decoding
    if decoding == "auto" and settings.provider != "cpu":
        decoding = "step"
    elif decoding == "auto":
        decoding = "native" if decodes_natively(manifest) else "graph"
    if decoding == "native":
        return NativeRunner(bundle, manifest, features, settings)
    if decoding == "step":
        return StepRunner(bundle, manifest, settings)
    return SlateRunner(bundle, manifest, settings)


def writer_of(runner: Runner) -> Writer:
    """What writes the runner's slates, with its sessions, and tells what else could have stood in them."""
    if isinstance(runner, NativeRunner):
        return runner
    stepwise = runner.stepwise if isinstance(runner, SlateRunner) else runner
    assert isinstance(stepwise, StepRunner)
    return StepWriter(stepwise)


def open_lookahead(
    bundle: Path, manifest: Manifest, features: FeatureAssembler, settings: SessionSettings, runner: Runner
) -> Lookahead | None:
    """None where the bundle has no evaluator. Natively where slates are, and the evaluator can be.

    Raises:
        BundleError: the evaluator cannot be loaded.
    """
    if not manifest.has_evaluator:
        return None
    writer = writer_of(runner)
    if isinstance(runner, NativeRunner) and EVALUATE in manifest.hashes and settings.provider == "cpu":
        return Lookahead(writer, NativeEvaluator(bundle / EVALUATE, features, settings.intra_op_threads))
    return Lookahead(writer, EvaluatorGraphs(bundle, settings))
