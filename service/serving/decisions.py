"""What was decided, and what came of it, as lines of the decision log."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, cast

from bundle.features.history import Interaction, UserContext
from bundle.manifest import Manifest
from decisions.lines import Decision, Exploration, Feedback, Outcome, Seen
from engine.generation import Controls, Slate
from service.bodies.rerank import RerankRequest, RerankResponse
from service.context.store import is_anonymous
from service.observe.decision_log import Hide

CONTROLS = ("entropy_threshold", "reasoning_budget", "reasoning_temperature", "lookahead")
"""Those that a line tells if they are not the bundle's. The temperature of selection is its exploration's."""

SEEN = itemgetter(slice(len(Seen.__struct_fields__)))
"""Of an interaction: what a `Seen` would be encoded as, in half the time."""


def decision(
    request: RerankRequest,
    manifest: Manifest,
    user: UserContext,
    controls: Controls,
    wanted: int,
    slate: Slate | None,
    response: RerankResponse,
    at: float,
    hide: Hide,
) -> Decision:
    """
    Args:
        user: what was known of the user.
        at: unix seconds of the request's arrival.
    """
    recommendation_id, sent = response.recommendation_id, cast(Any, request)
    positions = () if slate is None else slate.positions
    exploration = None
    share = (
        float(controls.seed is not None) if controls.exploration_share is None else controls.exploration_share
    )
    if share and slate is not None:
        exploration = Exploration(share, controls.selection_temperature)
    changed: dict[str, float] = {}
    if request.reasoning is not None or request.sampling is not None:
        default = Controls.default(manifest, controls.slate_length)
        changed = {
            name: value for name in CONTROLS if (value := getattr(controls, name)) != getattr(default, name)
        }
    return Decision(
        request_id=response.request_id,
        at=at,
        model=response.model,
        model_version=response.model_version,
        items=sent.items,
        slate=tuple([result.index for result in response.results]),
        wanted=wanted,
        took_ms=response.took_ms,
        id=None if recommendation_id is None or is_anonymous(recommendation_id) else recommendation_id,
        user_id=hide(request.user_id),
        matrix=sent.features_f32,
        context=request.context,
        profile=dict(user.profile),
        history=cast(Any, tuple(map(SEEN, user.history))),
        told={one.item_id: dict(one.features) for one in user.history if one.features},
        probability=tuple([position.probability for position in positions]),
        propensity=tuple([position.propensity for position in positions]),
        reasoning_tokens=tuple([position.reasoning_tokens for position in positions]),
        entropy_before=tuple([position.entropy_before for position in positions]),
        entropy_after=tuple([position.entropy_after for position in positions]),
        controls=changed,
        exploration=exploration,
        seed=None if slate is None else controls.seed,
        constraints=sent.constraints,
        fallback=response.fallback,
    )


def feedback(
    recommendation_id: str,
    user_id: str,
    at: float,
    events: Sequence[tuple[Interaction, str | None]],
    hide: Hide,
) -> Feedback:
    """
    Args:
        at: unix seconds.
        events: those that were applied, with their ids.
    """
    outcomes = [Outcome(one.item_id, one.type, one.timestamp or at, event_id) for one, event_id in events]
    return Feedback(recommendation_id, at, tuple(outcomes), hide(user_id))
