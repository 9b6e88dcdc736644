"""Opening a graph: what cannot be loaded, and providers that are not there."""

from pathlib import Path

import pytest

from bundle.manifest import SLATE, BundleError
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.sessions import ProviderUnavailableError, open_session
from engine.settings import SessionSettings


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / SLATE).write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=f"{SLATE}: ONNX Runtime cannot load it"):
        open_session(tmp_path / SLATE, SessionSettings())


def test_a_provider_that_is_not_active_is_refused_or_allowed(bundle: Path) -> None:
    with pytest.raises(ProviderUnavailableError, match="CUDAExecutionProvider"):
        LoadedModel.open(bundle, SessionSettings(provider="cuda"))
    model = LoadedModel.open(bundle, SessionSettings(provider="cuda", require_provider=False))
    assert model.runner.provider == "CPUExecutionProvider"
    assert isinstance(model.runner, StepRunner)  # no control flow where a device was asked for
    assert isinstance(LoadedModel.open(bundle, SessionSettings(decoding="graph")).runner, SlateRunner)
