"""Native decoding against the host-driven step graph, the reference, on whole lists."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import TinyBundles

from bundle.arrays import Arrays, read_arrays
from bundle.contract import MEMORY, NO_ITEM, RECORD, past
from bundle.features.assembly import collate
from bundle.manifest import DECODE, ENCODE, ENCODER, BundleError, GateKind
from engine.generation import stack_controls
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.native import runner
from engine.native.encoder import NativeEncoder
from engine.native.runner import NativeRunner
from engine.native.weights import FORMER_NAMES
from engine.sessions import open_session
from engine.settings import SessionSettings
from export.parity import TorchRunner, compare, random_requests
from model.training.checkpoint import load_policy


@pytest.mark.parametrize(
    "gate", ["normalised", *(pytest.param(gate, marks=pytest.mark.slow) for gate in ("raw", "margin"))]
)
def test_every_gate_writes_the_step_graphs_lists(gate: GateKind, tiny_bundles: TinyBundles) -> None:
    """Several B, N, K, paddings, seeds, budgets, temperatures, thresholds and micro-step budgets."""
    directory = tiny_bundles(gate=gate)
    model = LoadedModel.open(directory)
    assert isinstance(model.runner, NativeRunner)
    step = StepRunner(directory, model.manifest, SessionSettings())
    requests = random_requests(model.features, model.manifest, 150, seed=3)
    result = compare(step, model.runner, requests)
    assert result.identical == 150
    slates = [model.generate([arrays], [control])[0] for arrays, control in requests]
    assert {slate.stop for slate in slates} == {"entropy", "budget", "deadline"}
    expected = replace(model, runner=step)
    for (arrays, control), slate in zip(requests, slates, strict=True):
        (theirs,) = expected.generate([arrays], [control])
        assert slate.stop == theirs.stop
        for position, reference in zip(slate.positions, theirs.positions, strict=True):
            assert position.index == reference.index
            assert position.reasoning_tokens == reference.reasoning_tokens
            for name in ("probability", "propensity", "entropy_before", "entropy_after", "uncertainty"):
                assert getattr(position, name) == pytest.approx(getattr(reference, name), abs=2e-5), name


def test_records_keep_the_contract(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    requests = random_requests(model.features, model.manifest, 8, seed=1)
    candidates = [len(arrays["candidate_numeric"]) for arrays, _ in requests]
    controls = [control for _, control in requests]
    found = model.runner.run(
        collate([arrays for arrays, _ in requests]), stack_controls(controls, candidates)
    )
    assert list(found) == [spec.name for spec in RECORD]
    for spec in RECORD:
        assert found[spec.name].dtype == spec.dtype
        assert found[spec.name].shape == found["chosen"].shape
    written = (found["chosen"] != NO_ITEM).sum(axis=0)
    assert written.tolist() == [control.slate_length for control in controls]
    assert not (found["reasoned"] & (found["chosen"] != NO_ITEM)).any()


def test_trained_without_reasoning_decodes_natively_too(tiny_bundles: TinyBundles) -> None:
    directory = tiny_bundles("none")
    model = LoadedModel.open(directory)
    assert isinstance(model.runner, NativeRunner)
    requests = random_requests(model.features, model.manifest, 60)
    step = StepRunner(directory, model.manifest, SessionSettings())
    assert compare(step, model.runner, requests).identical == 60


def test_parity_notices_other_decode_weights(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    assert isinstance(model.runner, NativeRunner)
    reference = StepRunner(bundle, model.manifest, SessionSettings())
    requests = random_requests(model.features, model.manifest, 40)
    model.runner._weights.write_bias[:] += np.float32(0.5)
    assert compare(reference, model.runner, requests).identical < 40


def test_weights_under_their_former_names_are_read(bundle: Path, tmp_path: Path) -> None:
    model = LoadedModel.open(bundle)
    shutil.copytree(bundle, tmp_path, dirs_exist_ok=True)
    with np.load(bundle / DECODE) as stored:
        former = {FORMER_NAMES.get(name, name): stored[name] for name in stored.files}
    assert "gates_bias" in former
    np.savez(tmp_path / DECODE, allow_pickle=False, **former)
    older = NativeRunner(tmp_path, model.manifest, model.features, SessionSettings())
    requests = random_requests(model.features, model.manifest, 20)
    assert compare(model.runner, older, requests).identical == 20


@pytest.mark.parametrize(
    ("reasoner", "decoder", "gate"),
    [
        ("paper", "gru", "raw"),
        *(
            pytest.param(*policy, marks=pytest.mark.slow)
            for policy in (("pause", "gru", "normalised"), ("deep", "lstm", "raw"))
        ),
    ],
)
def test_what_it_does_not_know_is_refused_and_auto_takes_the_graph(
    reasoner: str, decoder: str, gate: GateKind, tiny_bundles: TinyBundles
) -> None:
    directory = tiny_bundles(reasoner, decoder=decoder, gate=gate)
    assert isinstance(LoadedModel.open(directory).runner, SlateRunner)
    with pytest.raises(BundleError, match=f"cannot be decoded natively: the bundle has no {DECODE}"):
        LoadedModel.open(directory, SessionSettings(decoding="native"))


def test_a_setting_chooses_the_path(bundle: Path) -> None:
    kinds = {"graph": SlateRunner, "step": StepRunner, "native": NativeRunner, "auto": NativeRunner}
    for decoding, kind in kinds.items():
        assert isinstance(LoadedModel.open(bundle, SessionSettings(decoding=decoding)).runner, kind)  # type: ignore[arg-type]


def test_native_lists_are_torchs(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    requests = random_requests(model.features, model.manifest, 60, seed=9)
    assert compare(TorchRunner(load_policy(bundle, model.features)), model.runner, requests).identical == 60


def with_empty_rows(arrays: Arrays) -> Arrays:
    """The same request with an item and an event without tokens, and an event of each kind."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    arrays["candidate_tokens"][0] = 0
    arrays["history_tokens"][:1] = 0
    arrays["history_feedback"][:2] = (1, 2)[: len(arrays["history_feedback"])]
    return arrays


@pytest.mark.parametrize("batch", [1, 7])
def test_native_memories_are_the_encoder_graphs(bundle: Path, batch: int) -> None:
    """Different N and H, no history, no tokens."""
    model = LoadedModel.open(bundle)
    encoder = NativeEncoder(read_arrays(bundle / ENCODE), threads=1)
    graph = open_session(bundle / ENCODER, SessionSettings())
    names = [*(spec.name for spec in MEMORY), past("readout")]
    requests = [with_empty_rows(arrays) for arrays, _ in random_requests(model.features, model.manifest, 84)]
    assert {len(arrays["history_feedback"]) for arrays in requests} >= {0, 1}
    for start in range(0, len(requests), batch):
        inputs = collate(requests[start : start + batch])
        mask = inputs["candidate_mask"]
        found = dict(zip(names, encoder.run(inputs), strict=True))
        expected = dict(zip(names, graph.run(names, inputs), strict=True))
        for memory in (found, expected):
            for name in ("memory", "pointer_keys", "pointer_bias"):
                memory[name] = memory[name][mask]
            memory["reasoning_memory"] = memory["reasoning_memory"].swapaxes(1, 2)[mask]
        for name in names:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-5, err_msg=name)


def test_attention_layers_are_encoded_on_onnx_runtime(tiny_bundles: TinyBundles) -> None:
    directory = tiny_bundles(layers=1)
    model = LoadedModel.open(directory)
    assert isinstance(model.runner, NativeRunner)
    assert not (directory / ENCODE).exists()
    requests = random_requests(model.features, model.manifest, 60)
    step = StepRunner(directory, model.manifest, SessionSettings())
    assert compare(step, model.runner, requests).identical == 60


def test_parity_notices_other_encode_weights(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    assert isinstance(model.runner, NativeRunner)
    encoder = NativeEncoder(read_arrays(bundle / ENCODE), threads=1)
    encoder._weights.recalled_weights += np.float32(0.1)
    model.runner._encode = encoder.run
    reference = StepRunner(bundle, model.manifest, SessionSettings())
    requests = random_requests(model.features, model.manifest, 40)
    assert compare(reference, model.runner, requests).identical < 40


def test_lists_of_like_lengths_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.arange(200) < np.array([[200], [10], [160], [150], [9], [100]])
    assert [sorted(rows.tolist()) for rows in runner.alike(mask)] == [[0, 2, 3], [5], [1, 4]]
    monkeypatch.setattr(runner, "CANDIDATES", 400)
    assert [sorted(rows.tolist()) for rows in runner.alike(mask)] == [[0, 2], [3], [5], [1, 4]]


def test_a_list_is_the_same_in_any_group(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CANDIDATES", 100)
    model = LoadedModel.open(bundle)
    assert isinstance(model.runner, NativeRunner)
    requests = random_requests(model.features, model.manifest, 24, seed=5)
    inputs, controls = [row[0] for row in requests], [row[1] for row in requests]
    assert len(runner.alike(collate(inputs)["candidate_mask"])) > 3
    for together, arrays, control in zip(model.generate(inputs, controls), inputs, controls, strict=True):
        (alone,) = model.generate([arrays], [control])
        assert [p.index for p in together.positions] == [p.index for p in alone.positions]
        assert [p.reasoning_tokens for p in together.positions] == [
            p.reasoning_tokens for p in alone.positions
        ]
