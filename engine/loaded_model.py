"""A bundle in memory: its manifest, its features and a runner, and slates out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from bundle.arrays import Arrays
from bundle.features.assembly import FeatureAssembler, collate
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import FittedFeatures
from bundle.manifest import CATALOGUE, FEATURES, BundleError, Manifest, read_manifest
from bundle.repository import locate
from engine.generation import Controls, Slate, Times, read_slates, stack_controls
from engine.runner import Runner, open_runner
from engine.settings import SessionSettings


@dataclass(frozen=True)
class LoadedModel:
    """Everything needed to re-rank with one version of a model."""

    manifest: Manifest
    features: FeatureAssembler
    runner: Runner

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
            raise BundleError(f"{bundle / FEATURES}: not features this version can read: {error}") from error
        features = FeatureAssembler(fitted, Catalogue.load(bundle / CATALOGUE, fitted))
        return cls(manifest, features, open_runner(bundle, manifest, settings or SessionSettings()))

    def generate(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        """Write the slates of a batch. One whose deadline passes meanwhile is left short.

        Args:
            inputs: one `FeatureAssembler.request` result a request, of any N.
            controls: one a request, its slate length at most the request's N.
        """
        candidates = [len(request["candidate_numeric"]) for request in inputs]
        assert all(c.slate_length <= n for c, n in zip(controls, candidates, strict=True))
        records = self.runner.run(collate(inputs), stack_controls(controls, candidates), Times.of(controls))
        return read_slates(controls, records)
