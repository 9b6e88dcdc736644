"""Lists that one policy chose, with what they brought, as arrays to judge another policy by.

Legend: L lists, N candidates, K positions that were written, those of the longest list.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays
from bundle.errors import RerankerError
from bundle.features.assembly import Candidates, FeatureAssembler
from bundle.features.catalogue import UNKNOWN
from bundle.features.history import Interaction, UserContext
from decisions.lines import Decision
from decisions.reading import Joined, ranked_as_of
from model.data.decision_log import features_sent
from model.training.examples import Example

Floats = NDArray[np.float64]
Slates = list[NDArray[np.int64]]


class NothingToJudgeError(RerankerError):
    """No list of the log says anything about the policy."""


@dataclass(frozen=True)
class LoggedLists:
    """Lists of a log.

    Attributes:
        examples: encoder inputs, labels and what was shown, what was not written included.
        slates: what was written, as indices of candidates.
        propensity: `[L, K]`, of each item given those before it; 1 past the end of a list.
        people: whose each list is, `[L]`.
        share, temperature: of the exploration that each list was chosen by, `[L]`; a share of 0 is the greedy
            list for certain.
        left_out: lists of the log that say nothing, by reason.
    """

    examples: list[Example]
    slates: Slates
    propensity: Floats
    people: NDArray[np.str_]
    share: Floats
    temperature: Floats
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.slates)

    @property
    def rewards(self) -> Floats:
        """1 where a shown item was clicked (or whatever counts as positive). `[L, K]`."""
        clicks = [row.labels[slate] for row, slate in zip(self.examples, self.slates, strict=True)]
        return padded(clicks, 0.0)

    @property
    def inputs(self) -> list[Arrays]:
        return [row.inputs for row in self.examples]


def padded(rows: Iterable[NDArray[np.floating]], value: float) -> Floats:
    """Rows of different lengths as one array, `[L, K]`."""
    rows = list(rows)
    out = np.full((len(rows), max(map(len, rows))), value)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out


def logged_lists(decisions: Iterable[Joined], features: Sequence[FeatureAssembler]) -> list[LoggedLists]:
    """Decisions as each of several models sees them: for all the same lists, those that all can rank.

    Fallbacks are left out, since no model chose them, and so are lists with constraints, whose chances a
    policy has under these alone, and lists with an item that a model cannot rank.

    Args:
        features: of each model.

    Raises:
        NothingToJudgeError: nothing is left.
    """
    left_out: Counter[str] = Counter()
    rows: list[list[Example]] = [[] for _ in features]
    slates, propensity, people = [], [], []
    shares, temperatures = [], []
    positive = [frozenset(own.schema.positive_types) for own in features]
    for joined in decisions:
        decision = joined.decision
        reason = _says_nothing(decision)
        if reason is None and any(_unrankable(decision, own) for own in features):
            reason = "with items the bundle cannot rank"
        if reason is not None:
            left_out[reason] += 1
            continue
        shown = np.array(decision.slate, np.int64)
        for own, types, seen in zip(features, positive, rows, strict=True):
            liked = {outcome.item_id for outcome in joined.outcomes if outcome.type in types}
            labels = np.array([item.id in liked for item in decision.items], np.float32)
            seen.append(Example(_inputs(decision, own), labels, shown))
        slates.append(shown[: len(decision.propensity)])
        propensity.append(np.array(decision.propensity))
        people.append(decision.user_id or decision.id or decision.request_id)
        shares.append(decision.exploration.share if decision.exploration else 0.0)
        temperatures.append(decision.exploration.temperature if decision.exploration else 1.0)
    if not slates:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise NothingToJudgeError(f"no list of the log can be judged by: {reasons or 'there are none'}")
    common = (
        *(slates, padded(propensity, 1.0), np.array(people), np.array(shares), np.array(temperatures)),
        left_out,
    )
    return [LoggedLists(seen, *common) for seen in rows]


def _says_nothing(decision: Decision) -> str | None:
    if decision.fallback is not None:
        return "fallbacks"
    if decision.constraints is not None:
        return "with constraints"
    if not decision.propensity or min(decision.propensity) == 0.0:
        return "without propensities"
    return None


def _unrankable(decision: Decision, features: FeatureAssembler) -> bool:
    """Whether nothing is known of an item but its id: the service leaves those to stand last."""
    unknown = features.catalogue.rows([item.id for item in decision.items]) == UNKNOWN
    if not unknown.any():
        return False
    sent = features_sent(decision)
    scored = features.schema.initial_score
    return any(
        not sent[place] and not (scored and decision.items[place].score is not None)
        for place in np.flatnonzero(unknown)
    )


def _inputs(decision: Decision, features: FeatureAssembler) -> Arrays:
    sent = features_sent(decision)
    history = (
        Interaction(seen.item_id, seen.type, seen.timestamp, decision.told.get(seen.item_id))
        for seen in decision.history
    )
    candidates = Candidates(
        [item.id for item in decision.items],
        sent if any(sent) else None,
        [np.nan if item.score is None else item.score for item in decision.items],
    )
    user = UserContext(decision.profile, tuple(history))
    return features.request(candidates, user, decision.context, ranked_as_of(decision))
