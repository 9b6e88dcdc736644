"""Bundles that somebody tampered with, hashes and all: refused with a reason, and nothing in them is run.

Long, because every kind of file has its row, and all share one way to tamper with a bundle and sign it again.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import TinyBundles

from bundle.arrays import read_arrays
from bundle.manifest import (
    CATALOGUE,
    DECODE,
    ENCODE,
    ENCODER,
    EVALUATE,
    FEATURES,
    MANIFEST,
    SLATE,
    BundleError,
    Manifest,
    read_manifest,
    sha256,
)
from engine.loaded_model import LoadedModel
from engine.native.weights import read_decode, read_encode, read_evaluate
from engine.settings import SessionSettings
from service.serving.warm_up import warm_up

Arrays = dict[str, Any]


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Path:
    """A copy, to be tampered with."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def sign(folder: Path) -> None:
    """Make the hashes of the manifest those of the files."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["hashes"] = {name: sha256(folder / name) for name in manifest["hashes"]}
    path.write_text(json.dumps(manifest))


def change(folder: Path, *place: str, to: Any, file: str = MANIFEST) -> None:
    document = node = json.loads((folder / file).read_text())
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = to
    (folder / file).write_text(json.dumps(document))
    sign(folder)


def change_arrays(folder: Path, name: str, tamper: Callable[[Arrays], Any]) -> None:
    with np.load(folder / name) as stored:
        arrays = {key: stored[key] for key in stored.files}
    tamper(arrays)
    np.savez(folder / name, **arrays)
    sign(folder)


NUMBERS = [
    *(("width",), ("reasoning_budget",), ("reasoning_temperature",), ("selection_temperature",)),
    *(("slate_length",), ("contract_version",)),
    *(("gate", "threshold"), ("gate", "quantile"), ("gate", "trigger_rate"), ("gate", "tokens_per_list")),
]


@pytest.mark.parametrize("place", NUMBERS, ids=".".join)
def test_numbers_are_within_their_range(broken: Path, place: tuple[str, ...]) -> None:
    bad: list[Any] = [float("nan"), float("inf"), -float("inf"), None, [], 10**400]
    if place != ("gate", "threshold"):
        bad += [-1]
    for value in bad:
        change(broken, *place, to=value)
        with pytest.raises(BundleError):
            read_manifest(broken)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", "..", ".", "a" * 200, "a\n", "a\\b"])
def test_files_are_named_in_the_folder(broken: Path, name: str) -> None:
    manifest = json.loads((broken / MANIFEST).read_text())
    manifest["hashes"][name] = "0" * 64
    (broken / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="hashes"):
        read_manifest(broken)


@pytest.mark.parametrize("name", [MANIFEST, FEATURES, SLATE])
def test_a_link_leads_nowhere_else(broken: Path, name: str) -> None:
    shutil.move(broken / name, broken.parent / name)
    os.symlink(broken.parent / name, broken / name)
    with pytest.raises(BundleError, match="leaves the bundle"):
        read_manifest(broken)
    (broken / name).unlink()
    shutil.move(broken.parent / name, broken / f"real-{name}")
    os.symlink(f"real-{name}", broken / name)
    assert read_manifest(broken)


def test_files_have_a_largest_size(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundle.manifest.MAX_FILE_BYTES", (broken / SLATE).stat().st_size - 1)
    with pytest.raises(BundleError, match="bytes, more than"):
        read_manifest(broken)
    monkeypatch.setattr("bundle.arrays.MAX_FILE_BYTES", 1000)
    with pytest.raises(BundleError, match="when unpacked"):
        read_arrays(broken / CATALOGUE)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", [CATALOGUE, DECODE, ENCODE])
def test_nothing_is_unpickled(broken: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "run"

    def tamper(arrays: Arrays) -> None:
        arrays[next(iter(arrays))] = np.array([Payload(str(mark))], dtype=object)

    change_arrays(broken, name, tamper)
    with pytest.raises(BundleError, match="not arrays"):
        LoadedModel.open(broken)
    assert not mark.exists()


@pytest.mark.parametrize(("name", "value"), [(CATALOGUE, np.nan), (DECODE, np.inf), (ENCODE, np.nan)])
def test_weights_are_finite(broken: Path, name: str, value: float) -> None:
    def tamper(arrays: Arrays) -> None:
        array = next(array for key, array in arrays.items() if array.dtype.kind == "f" and key != "born")
        array.flat[-1] = value

    change_arrays(broken, name, tamper)
    with pytest.raises(BundleError, match="finite"):
        LoadedModel.open(broken)


FREE = {(DECODE, "mix_bias"), (ENCODE, "embedding"), (EVALUATE, "embedding")}
"""Arrays with an axis that nothing else says the length of: reasoning steps, and what tokens are embedded in,
where only another array that is multiplied with it does not fit any more."""

DAMAGES: dict[str, Callable[[Any], Any]] = {
    "shorter": lambda array: array[:-1],
    "longer": lambda array: np.concatenate([array, array[:1]]),
    "narrower": lambda array: array[..., :-1],
    "deeper": lambda array: array[None],
    "double": lambda array: array.astype(np.float64),
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
}


@pytest.mark.parametrize("damage", [*DAMAGES, "absent"])
@pytest.mark.parametrize("file", [DECODE, ENCODE, EVALUATE])
def test_compiled_code_reads_no_further_than_its_weights(
    tiny_bundles: TinyBundles, tmp_path: Path, file: str, damage: str
) -> None:
    """Every array there is, of an evaluator those of the last of three members."""
    bundle = tiny_bundles(evaluators=3)
    model, broken, whole = LoadedModel.open(bundle), tmp_path / file, read_arrays(bundle / file)
    read: dict[str, Callable[[], Any]] = {
        DECODE: lambda: read_decode(broken, model.manifest),
        ENCODE: lambda: read_encode(broken, model.manifest, model.features),
        EVALUATE: lambda: read_evaluate(broken, model.features),
    }
    for name, array in whole.items():
        own = name.rpartition(".")[2]
        if name.startswith(("0.", "1.", "discounted")):
            continue
        if (file, own) in FREE and damage in ("shorter", "longer", "narrower"):
            continue
        damaged = {} if damage == "absent" else {name: DAMAGES[damage](array)}
        np.savez(broken, allow_pickle=False, **{**without(whole, name), **damaged})
        with pytest.raises(BundleError, match=rf"{file}: {name}: expected \S+ \[.*\], got "):
            read[file]()


def without(arrays: Arrays, name: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("file", "name", "tamper", "told"),
    [
        (DECODE, "mix_bias", lambda array: array[:, :-1], r"mix_bias: expected float32 \[8, 32\], got"),
        (DECODE, "mix_bias", lambda array: array[:0], r"mix_bias: expected float32 \[1, 32\], got"),
        (
            ENCODE,
            "token_vectors",
            lambda array: array[:3],
            r"token_vectors: expected .*, got float32 \[3, 16\]",
        ),
        (ENCODE, "embedding", lambda array: array[:-1], "embedding: expected"),
        (ENCODE, "embedding", lambda array: array[:, :-1], "user_weights: expected"),
        (ENCODE, "feedback_bias", lambda array: array[:2], r"feedback_bias: expected float32 \[3, 16\], got"),
        (ENCODE, "slot_fields", lambda array: array + 9, "slot_fields: expected 0 to 2, got"),
        (ENCODE, "slot_fields", lambda array: array - 1, "slot_fields: expected 0 to 2, got"),
        (EVALUATE, "2.slot_fields", lambda array: array + 9, "2.slot_fields: expected 0 to 2, got"),
        (EVALUATE, "1.token_vectors", lambda array: array[:3], "1.token_vectors: expected"),
        (EVALUATE, "0.score_weights", lambda array: array[:0], "width"),
        (EVALUATE, "1.place_vectors", lambda array: array[:-1], "1.place_vectors: expected"),
        (
            EVALUATE,
            "discounted",
            lambda array: array[None],
            r"discounted: expected bool \[\], got bool \[1\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tiny_bundles: TinyBundles, tmp_path: Path, file: str, name: str, tamper: Callable[[Any], Any], told: str
) -> None:
    broken = shutil.copytree(tiny_bundles(evaluators=3), tmp_path / "bundle")
    change_arrays(broken, file, lambda arrays: arrays.update({name: tamper(arrays[name])}))
    with pytest.raises(BundleError, match=f"{file}: .*{told}"):
        LoadedModel.open(broken)


def test_weights_know_every_token_of_the_vocabulary(broken: Path) -> None:
    size = json.loads((broken / FEATURES).read_text())["vocabulary_size"]
    change(broken, "vocabulary_size", to=size + 1, file=FEATURES)
    told = rf"{ENCODE}: embedding: expected float32 \[{size + 1}, 4\], got float32 \[{size}, 4\]"
    with pytest.raises(BundleError, match=told):
        LoadedModel.open(broken)


def test_compiled_decoding_reads_no_further_than_what_a_graph_has_encoded(
    tiny_bundles: TinyBundles, tmp_path: Path
) -> None:
    import onnx

    broken = shutil.copytree(tiny_bundles(layers=1), tmp_path / "bundle")
    graph = onnx.load(broken / ENCODER)
    (user,) = (output for output in graph.graph.output if output.name == "user")
    (keys,) = (output for output in graph.graph.output if output.name == "pointer_keys")
    user.name, keys.name = keys.name, user.name
    for node in graph.graph.node:
        node.output[:] = [{"user": "pointer_keys", "pointer_keys": "user"}.get(n, n) for n in node.output]
        node.input[:] = [{"user": "pointer_keys", "pointer_keys": "user"}.get(n, n) for n in node.input]
    onnx.save(graph, broken / ENCODER)
    sign(broken)
    with pytest.raises(BundleError, match=rf"{ENCODER}: user: expected float32 \[1, 16\], got"):
        warm_up(LoadedModel.open(broken), 50)


def test_weights_in_graphs_are_finite(broken: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(broken / SLATE)
    for weights in graph.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.dtype == np.float32 and array.ndim == 2:
            weights.CopyFrom(numpy_helper.from_array(np.full_like(array, np.nan), weights.name))
    onnx.save(graph, broken / SLATE)
    sign(broken)
    with pytest.raises(BundleError, match="not finite"):
        warm_up(LoadedModel.open(broken, SessionSettings(decoding="graph")), 50)


TAMPERS: list[Callable[[Arrays], Any]] = [
    lambda arrays: arrays["tokens"].__setitem__((0, 0), 10**6),
    lambda arrays: arrays["tokens"].__setitem__((0, 0), -1),
    lambda arrays: arrays.pop("clicks"),
    lambda arrays: arrays.update(more=np.zeros(1)),
    lambda arrays: arrays.update(numbers=arrays["numbers"][:-1]),
    lambda arrays: arrays.update(ids=np.arange(len(arrays["ids"]))),
]


def test_a_catalogue_fits_its_features(bundle: Path, tmp_path: Path) -> None:
    for number, tamper in enumerate(TAMPERS):
        broken = shutil.copytree(bundle, tmp_path / str(number))
        change_arrays(broken, CATALOGUE, tamper)
        with pytest.raises(BundleError, match=r"tokens|expected"):
            LoadedModel.open(broken)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("vocabulary_size",), 1),
        (("mean_ctr",), float("nan")),
        (("scales",), {}),
        (("vocabulary",), {}),
        (("scales", "item.price", "std"), 0.0),
        (("scales", "item.price", "mean"), float("inf")),
        (("feature_schema", "history_length"), 10**9),
    ],
)
def test_features_are_whole(broken: Path, place: tuple[str, ...], value: Any) -> None:
    change(broken, *place, to=value, file=FEATURES)
    with pytest.raises(BundleError, match=FEATURES):
        LoadedModel.open(broken)


@pytest.mark.parametrize(
    ("file", "place", "value", "told"),
    [
        (MANIFEST, ("width",), 0, "manifest this version can read: width: Input should be greater than"),
        (MANIFEST, ("gate", "quantile"), "x\ny", "gate.quantile: Input should be a valid number"),
        (MANIFEST, ("hashes", "a\nb"), "0", r"hashes\.a b"),
        (MANIFEST, ("k" * 10**5,), 0, "kkk"),
        (FEATURES, ("vocabulary_size",), [1] * 1000, "vocabulary_size: Input should be a valid integer"),
        (FEATURES, ("vocabulary",), {}, "can read: nothing was learned of"),
    ],
)
def test_what_is_wrong_with_a_document_is_told_in_a_line(
    broken: Path, file: str, place: tuple[str, ...], value: Any, told: str
) -> None:
    document = node = json.loads((broken / file).read_text())
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    (broken / file).write_text(json.dumps(document))
    if file != MANIFEST:
        sign(broken)
    with pytest.raises(BundleError, match=told) as refused:
        LoadedModel.open(broken)
    line = str(refused.value).removeprefix(str(broken))
    assert "\n" not in line
    assert len(line) < 600
    assert "pydantic" not in line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FUZZED = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


@FUZZED
@given(data=st.data())
def test_a_manifest_is_read_or_refused(broken: Path, bundle: Path, data: st.DataObject) -> None:
    manifest = node = json.loads((bundle / MANIFEST).read_text())
    while True:
        place = data.draw(st.sampled_from(sorted(node)))
        if not (isinstance(node[place], dict) and node[place]) or data.draw(st.booleans()):
            node[place] = data.draw(JSON)
            break
        node = node[place]
    (broken / MANIFEST).write_text(json.dumps(manifest))
    try:
        read: Any = read_manifest(broken)
    except BundleError as error:
        read = error
    assert isinstance(read, Manifest | BundleError)


@FUZZED
@given(data=st.data())
def test_arrays_are_read_or_refused(broken: Path, bundle: Path, data: st.DataObject) -> None:
    content = bytearray((bundle / DECODE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (broken / DECODE).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    arrays: Arrays = {}
    try:
        arrays = read_arrays(broken / DECODE)
    except BundleError as error:
        assert DECODE in str(error)  # noqa: PT017
    assert all(array.dtype.kind != "O" for array in arrays.values())
