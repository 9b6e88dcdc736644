"""What the benchmarks send is seeded, valid, and for users that are known."""

import json
from pathlib import Path

import pytest

from bench.payloads import Kind, context_body, workload
from bundle.features.history import ANONYMOUS
from engine.loaded_model import LoadedModel
from service.api.decoding import parse
from service.bodies.rerank import RerankRequest
from service.bodies.users import ContextBody
from service.serving.request_features import assemble, select


@pytest.mark.parametrize("kind", ["ids", "features"])
def test_the_same_seed_gives_the_same_bytes(bundle: Path, kind: Kind) -> None:
    assert workload(bundle, kind) == workload(bundle, kind)
    assert workload(bundle, kind).bodies != workload(bundle, kind, seed=1).bodies


def test_bodies_are_valid_and_their_users_known(bundle: Path) -> None:
    load = workload(bundle, "features", sizes=(5, 50))
    requests = [parse(RerankRequest, body) for body in load.bodies]
    assert {len(request.items) for request in requests} == {5, 50}
    known = [request.user_id in load.users for request in requests]
    assert 0.85 < sum(known) / len(known) < 0.95
    for context in load.users.values():
        assert len(parse(ContextBody, context_body(context)).history) == len(context.history)


def test_features_fit_the_bundle(bundle: Path) -> None:
    features = LoadedModel.open(bundle).features
    ids, full = (workload(bundle, kind).bodies[0] for kind in ("ids", "features"))
    assert len(full) > 4 * len(ids)
    fields = {field.name for field in features.fitted.feature_schema.of("item")}
    assert all(set(item["features"]) == fields for item in json.loads(full)["items"])
    request = parse(RerankRequest, full)
    selection = select(features, request)
    assert not selection.missing_ids
    assemble(features, request, selection, ANONYMOUS, 0.0)
