"""What `bench.stages` sends as a matrix is what it sends as JSON."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.payloads import workload
from bench.stages import anonymous, as_matrix
from bundle.features.history import ANONYMOUS
from engine.loaded_model import LoadedModel
from service.api.decoding import parse
from service.bodies.rerank import RerankRequest
from service.serving.request_features import assemble, select


def test_a_matrix_holds_the_same_numbers(bundle: Path) -> None:
    load = anonymous(workload(bundle, "features", sizes=(7,)))
    load = replace(load, bodies=load.bodies[:5])
    features = LoadedModel.open(bundle).features
    columns = len(features.catalogue.encoder.numeric_fields[0:1]) + 4  # a price and an embedding of four
    for as_json, as_numbers in zip(load.bodies, as_matrix(load, bundle).bodies, strict=True):
        assert "user_id" not in json.loads(as_json)
        inputs = [
            assemble(features, request, select(features, request), ANONYMOUS, 0.0)["candidate_numeric"]
            for request in (parse(RerankRequest, as_json), parse(RerankRequest, as_numbers))
        ]
        np.testing.assert_allclose(inputs[0][:, :columns], inputs[1][:, :columns], rtol=1e-4, atol=1e-5)
        assert inputs[0].std() > 0
