"""A twin and its model accept the same bodies, with the same values."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from service.bodies import documents, rerank, users
from service.bodies.twins import twin

BODIES = (
    *(rerank.RerankRequest, rerank.RerankResponse, documents.DocumentsRequest, documents.DocumentsResponse),
    *(users.ContextBody, users.FeedbackRequest, users.EventsRequest),
)

NUMBERS = (
    0,
    -1,
    1,
    5,
    5.0,
    0.5,
    -0.0,
    1e-2,
    101,
    1e30,
    1.1e30,
    1e300,
    600_000,
    600_001,
    2**53,
    2**63 - 1024,
    2**63 - 1,
    2**63,
    9.3e18,
    1700000000,
)
TEXTS = ("", "a", "click", "Click", "click\n", "é", "\x00", "5", "a b", "x" * 129, "\U0001f600")
LEAVES = (None, True, False, *NUMBERS, *TEXTS)
VALUES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a", "seed"]), inner),
    max_leaves=6,
)


def values(node: Any) -> Any:
    """A model or a twin as plain values that also tell an int from a float."""
    if isinstance(node, BaseModel):
        return {name: values(getattr(node, name)) for name in type(node).model_fields}
    if isinstance(node, msgspec.Struct):
        return {name: values(getattr(node, name)) for name in node.__struct_fields__}
    if isinstance(node, dict):
        return {name: values(value) for name, value in node.items()}
    return [values(one) for one in node] if isinstance(node, list) else (type(node), node)


def accepted(model: type[BaseModel], body: bytes) -> bool:
    """Whether the twin takes it; then the model must, with the same values, and else refuse it too."""
    try:
        fast = msgspec.json.decode(body, type=twin(model))
    except (msgspec.DecodeError, UnicodeDecodeError):
        with pytest.raises(ValidationError):
            model.model_validate_json(body)
        return False
    assert values(fast) == values(model.model_validate_json(body))
    return True


def examples(model: type[BaseModel]) -> list[Any]:
    extra: Any = model.model_config["json_schema_extra"]
    return deepcopy(list(extra["examples"]))


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a body, at any depth, with every key or index in it."""
    for place in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, place
        if isinstance(node[place], dict | list):
            yield from places(node[place])


@pytest.mark.parametrize("model", BODIES)
def test_the_examples_are_taken(model: type[BaseModel]) -> None:
    for example in examples(model):
        assert accepted(model, json.dumps(example).encode())


@pytest.mark.parametrize("model", BODIES)
def test_a_twin_takes_the_values_that_its_model_takes(model: type[BaseModel]) -> None:
    """Examples with each of their values in turn replaced by every other."""
    taken = []
    for example in examples(model):
        for node, place in places(example):
            kept = node[place]
            for value in (*LEAVES, [], {}):
                node[place] = value
                taken.append(accepted(model, json.dumps(example).encode()))
            node[place] = kept
    assert {True, False} == set(taken)


@settings(deadline=None)
@given(st.data())
def test_a_twin_takes_what_its_model_takes(data: st.DataObject) -> None:
    """Examples with several of their values put out of place, deep values and unknown fields among them."""
    model = data.draw(st.sampled_from(BODIES))
    body = data.draw(st.sampled_from(examples(model)))
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = body
        while True:
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not places:
                break
            place = data.draw(st.sampled_from(places))
            if not isinstance(node[place], dict | list) or data.draw(st.booleans()):
                node[place] = data.draw(VALUES)
                break
            node = node[place]
        if isinstance(node, dict) and data.draw(st.booleans()):
            names = [*model.model_fields, "features", "trace", "no_such_field"]
            node[data.draw(st.sampled_from(names))] = data.draw(VALUES)
    accepted(model, json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"request_id": "a\\n", "items": [{"id": "i1"}]}',
        b'{"items": [{"id": "\\ud800"}]}',
        b'{"items": [{"id": "\xff"}]}',
        b'{"items": [{"id": "i1", "score": 1e999}]}',
        b'{"items": [{"id": "i1"}], "constraints": null}',
        b'{"items": [{"id": "i1"}], "top_n": "9"}',
        b'{"items": [{"id": "i1"}], "top_n": 9.5}',
        b'{"items": [{"id": "i1"}], "top_n": true}',
        b'{"items": [{"id": "i1"}], "return_all": "true"}',
        b'{"items": [{"id": "i1"}], "deadline_ms": "40"}',
        b'{"items": [{"id": "i1", "features": {"price": 1e400}}]}',
    ],
)
def test_what_neither_may_take(body: bytes) -> None:
    assert not accepted(rerank.RerankRequest, body)
    with pytest.raises(ValidationError):
        rerank.RerankRequest.model_validate_json(body)


def test_answers_leave_out_what_has_its_default_and_nothing_else() -> None:
    reasoning = msgspec.json.encode(twin(rerank.Reasoning)(tokens=0, stop="entropy"))
    assert json.loads(reasoning) == {"tokens": 0, "stop": "entropy"}
    result = msgspec.json.encode(twin(rerank.Result)(id="i", index=0, score=None, propensity=None))
    assert json.loads(result) == {"id": "i", "index": 0, "score": None, "propensity": None}


def test_a_type_without_counterpart_is_refused() -> None:
    class Strange(BaseModel):
        pair: tuple[int, int]

    with pytest.raises(TypeError, match="no counterpart"):
        twin(Strange)
