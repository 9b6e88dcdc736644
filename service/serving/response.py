"""A slate as its caller reads it: items by id, and how they came to stand there."""

from collections.abc import Iterator

from engine.generation import Slate
from service.bodies import rerank as bodies
from service.bodies.rerank import RerankRequest
from service.bodies.twins import twin
from service.serving.request_features import Selection

Result, Reasoning, TracePosition = twin(bodies.Result), twin(bodies.Reasoning), twin(bodies.TracePosition)


def results(
    request: RerankRequest, selection: Selection, slate: Slate | None, slate_length: int
) -> Iterator[bodies.Result]:
    """The slate, then, as far as `top_n` or `return_all` asks, the other items in the caller's order.

    A slate shorter than `top_n` holds every candidate, so what fills it up are the unrankable items.

    Args:
        slate_length: how many are wanted if the request does not say.
    """
    items, top_n = request.items, request.top_n or slate_length
    placed: dict[int, None] = {}
    for position in slate.positions if slate else ():
        index = selection.candidates[position.index]
        placed[index] = None
        yield Result(
            id=items[index].id, index=index, score=position.probability, propensity=position.propensity
        )
    rest = [index for index in range(len(items)) if index not in placed]
    if not request.return_all:
        rest = rest[: max(0, top_n - len(placed))]
    for index in rest:
        yield Result(id=items[index].id, index=index, score=None, propensity=None)


def reasoning(request: RerankRequest, selection: Selection, slate: Slate) -> bodies.Reasoning:
    """With a trace of every position if the request asks for it."""
    if not request.explain:
        return Reasoning(tokens=slate.reasoning_tokens, judged=slate.judged, stop=slate.stop)
    candidates, items = selection.candidates, request.items
    trace = [
        TracePosition(
            position=place,
            id=items[candidates[position.index]].id,
            probability=position.probability,
            reasoning_tokens=position.reasoning_tokens,
            entropy_before=position.entropy_before,
            entropy_after=position.entropy_after,
            uncertainty=position.uncertainty,
        )
        for place, position in enumerate(slate.positions)
    ]
    return Reasoning(tokens=slate.reasoning_tokens, judged=slate.judged, stop=slate.stop, trace=trace)
