"""A bundle in memory: its manifest, its features and a runner, and slates out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from bundle.arrays import Arrays
from bundle.errors import in_a_line
from bundle.features.assembly import FeatureAssembler, collate
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import FittedFeatures
from bundle.manifest import CATALOGUE, FEATURES, BundleError, Manifest, read_manifest
from bundle.repository import locate
from engine.generation import Controls, Slate, Times, read_slates, stack_controls
from engine.lookahead import Lookahead
from engine.runner import Runner, open_lookahead, open_runner
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
        ahead = [row for row, control in enumerate(controls) if self.lookahead and control.looks_ahead]
        if not ahead:
            return self._write(inputs, controls)
        straight = sorted({*range(len(inputs))} - {*ahead})
        slates: dict[int, Slate] = {}
        for rows, write in ((straight, self._write), (ahead, self._look_ahead)):
            if rows:
                written = write([inputs[row] for row in rows], [controls[row] for row in rows])
                slates.update(zip(rows, written, strict=True))
        return [slates[row] for row in range(len(inputs))]

    def _write(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        stacked = stack_controls(controls, _candidates(inputs, controls))
        return read_slates(controls, self.runner.run(collate(inputs), stacked, Times.of(controls)))

    def _look_ahead(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        assert self.lookahead is not None
        return self.lookahead.generate(collate(inputs), controls, _candidates(inputs, controls))


def _candidates(inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[int]:
    candidates = [len(request["candidate_numeric"]) for request in inputs]
    assert all(c.slate_length <= n for c, n in zip(controls, candidates, strict=True))
    assert all(c.constraints is None or c.slate_length == c.constraints.length for c in controls)
    return candidates
