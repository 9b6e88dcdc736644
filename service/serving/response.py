"""A slate as its caller reads it: items by id, and how they came to stand there."""

from collections.abc import Iterable, Iterator, Sequence

from engine.generation import Position, Slate
from service.bodies import rerank as bodies
from service.bodies.rerank import RerankRequest
from service.bodies.twins import twin
from service.serving.request_features import Selection
from service.serving.rules import Completion, Rules

Result, Reasoning = twin(bodies.Result), twin(bodies.Reasoning)
TracePosition, TraceStep = twin(bodies.TracePosition), twin(bodies.TraceStep)


def complete(request: RerankRequest, rules: Rules | None, placed: Sequence[int], wanted: int) -> Completion:
    """What follows the items that the model has placed: as far as is wanted, the others in the caller's
    order, or as the rules let them; then, with `return_all`, what is left, in the caller's order. To a list
    that the rules cut short nothing is appended: it would stand where they hold.
    """
    if rules is None and not request.return_all and len(placed) >= wanted:
        return Completion([], [])
    shown: Sequence[int]
    if rules is None:
        shown, top = range(len(request.items)), Completion([], [])
    else:
        shown, top = rules.items, rules.complete(placed)
    listed = {*placed, *top.items}
    rest = [index for index in shown if index not in listed]
    if top.shortened_by:
        rest = []
    elif not request.return_all:
        rest = [] if rules else rest[: max(0, wanted - len(placed))]
    return Completion(top.items + rest, top.shortened_by)


def results(
    request: RerankRequest, placed: Sequence[int], slate: Slate | None, others: Iterable[int]
) -> Iterator[bodies.Result]:
    """The items that the model has placed, then others."""
    items = request.items
    for index, position in zip(placed, slate.positions if slate else (), strict=True):
        yield Result(
            id=items[index].id, index=index, score=position.probability, propensity=position.propensity
        )
    for index in others:
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
            steps=_steps(position, candidates),
        )
        for place, position in enumerate(slate.positions)
    ]
    return Reasoning(tokens=slate.reasoning_tokens, judged=slate.judged, stop=slate.stop, trace=trace)


def _steps(position: Position, candidates: Sequence[int]) -> list[bodies.TraceStep] | None:
    """`candidates`: index in the request of each the model had. None where nothing was traced."""
    return [
        TraceStep(
            entropy=step.entropy,
            uncertainty=step.uncertainty,
            candidates=[candidates[index] for index in step.candidates],
            probabilities=step.probabilities,
        )
        for step in position.micro_steps
    ] or None
