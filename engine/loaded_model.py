"""A bundle in memory: its manifest, its features and a runner, and slates out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError

from bundle.arrays import Arrays
from bundle.errors import in_a_line
from bundle.features.assembly import FeatureAssembler, collate
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import FittedFeatures
from bundle.manifest import CATALOGUE, FEATURES, BundleError, Manifest, read_manifest
from bundle.repository import locate
from engine.generation import Controls, Slate, Times, read_begun, read_slates, stack_controls
from engine.lookahead import Lookahead
from engine.runner import Runner, open_lookahead, open_runner, writer_of
from engine.settings import SessionSettings


@dataclass(frozen=True)
class LoadedModel:
    """Everything needed to re-rank with one version of a model."""

    manifest: Manifest
    features: FeatureAssembler
    runner: Runner
    lookahead: Lookahead | None = None  # where the bundle has an evaluator

    @classmethod
    def open(cls, bundle: Path, settings: SessionSettings | None = None) -> Self:
        """Load and verify a bundle, or the current version of a model's folder.

        Raises:
            BundleError: it is missing, corrupted, of another contract, or cannot be loaded.
        """
        bundle = locate(bundle)
        manifest = read_manifest(bundle)
        try:
            fitted = FittedFeatures.model_validate_json((bundle / FEATURES).read_bytes())
        except ValidationError as error:
            told = f"not features this version can read: {in_a_line(error)}"
            raise BundleError(f"{bundle / FEATURES}: {told}") from None
        features = FeatureAssembler(fitted, Catalogue.load(bundle / CATALOGUE, fitted))
        settings = settings or SessionSettings()
        opened = bundle, manifest, features, settings
        runner = open_runner(*opened)
        return cls(manifest, features, runner, open_lookahead(*opened, runner))

    def generate(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        """Write the slates of a batch. One whose deadline passes meanwhile is left short.

        Args:
            inputs: one `FeatureAssembler.request` result a request, of any N.
            controls: one a request, its slate length at most the request's N, and that of its constraints.
        """
        straight: list[int] = []
        traced: list[int] = []
        ahead: list[int] = []
        for row, control in enumerate(controls):
            looks = self.lookahead is not None and control.looks_ahead
            (ahead if looks else traced if control.trace_candidates else straight).append(row)
        if len(straight) == len(controls):
            return self._write(inputs, controls)
        slates: dict[int, Slate] = {}
        for rows, write in ((straight, self._write), (traced, self._trace), (ahead, self._look_ahead)):
            if rows:
                written = write([inputs[row] for row in rows], [controls[row] for row in rows])
                slates.update(zip(rows, written, strict=True))
        return [slates[row] for row in range(len(inputs))]

    def _write(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        stacked = stack_controls(controls, _candidates(inputs, controls))
        return read_slates(controls, self.runner.run(collate(inputs), stacked, Times.of(controls)))

    def _trace(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        """As `_write`, with the micro-steps."""
        writer, stacked = writer_of(self.runner), stack_controls(controls, _candidates(inputs, controls))
        rows = np.arange(len(controls))
        begun = writer.write(
            writer.encode(collate(inputs)),
            rows,
            stacked,
            Times.of(controls),
            prefix=np.empty((len(rows), 0), np.int64),
            alternatives=max(control.trace_candidates for control in controls),
        )
        return read_begun(controls, begun)

    def _look_ahead(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        assert self.lookahead is not None
        return self.lookahead.generate(collate(inputs), controls, _candidates(inputs, controls))


def _candidates(inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[int]:
    candidates = [len(request["candidate_numeric"]) for request in inputs]
    assert all(c.slate_length <= n for c, n in zip(controls, candidates, strict=True))
    assert all(c.constraints is None or c.slate_length == c.constraints.length for c in controls)
    return candidates
