"""LambdaMART in the loop, refitted to the same growing log of its own lists.

It is no bundle and so is not served: it ranks in this process, and its log is kept as arrays. Its exploration
is that of the others: a share of the lists is drawn, by scores at a temperature (Plackett-Luce).
Legend: L lists, N candidates, K positions.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loop.config import Arm
from loop.people import Floats
from loop.place import Place, keep, rounds_of, values_of
from loop.worth import Record, Watch, provenance, worth
from model.baselines.lambdamart import LambdaMART, fit
from model.data.features import DatasetFeatures
from model.data.slate import LoggedSlate
from model.progress import console
from model.training.examples import Example, examples

SHOWN = "shown.npz"
Lists = NDArray[np.int64]


class RankerArm:
    """An arm in one world."""

    def __init__(self, place: Place, arm: Arm) -> None:
        self._place, self._config, self._arm = place, place.config, arm
        self._folder = place.of_arm(arm)
        run = self._config.run_config(place.world, arm)
        self._length, self._seed, self._schema = run.policy.slate_length, run.seed, run.features

    def run(self) -> None:
        """Every round that is not finished."""
        done = len(rounds_of(self._folder))
        if done > self._config.rounds:
            return
        people = self._place.people
        features = DatasetFeatures.fit(people.dataset(people.first), self._schema)
        held_out = examples(people.held_out, features, training=False)
        log = [*people.first]
        for number in range(1, done):
            log += self._logged(number)
        ranker = self._fitted(log, features) if done > 0 else None
        for number in range(done, self._config.rounds + 1):
            watch = Watch(f"world {self._place.world}, {self._arm.name}, round {number}")
            own = self._folder / f"round-{number}"
            own.mkdir(exist_ok=True)
            record: Record = {}
            if ranker is not None:
                with watch.stage("serving"):
                    record = self._serve(number, ranker, features)
                log += self._logged(number)
            with watch.stage("training"):
                ranker = self._fitted(log, features)
            with watch.stage("true value"):
                values = people.values(people.held_out, self._best(ranker, held_out).tolist())
            found = worth(values, values_of(self._folder, 0) if number else values, self._place.references)
            console.print(f"{watch.title}: true value {found['value']}, gain {found['gain']}")
            arm = {"world": self._place.world, "arm": self._arm.name, "round": number}
            record = {**arm, **found, **record, "seconds": watch.seconds, **provenance()}
            keep(self._folder, number, record, values)

    def _fitted(self, log: Sequence[LoggedSlate], features: DatasetFeatures) -> LambdaMART:
        split = self._place.people.dataset(log).slates
        train, held_out = (
            examples(split[name], features, training=False) for name in ("train", "validation")
        )
        return fit(train, held_out, self._seed)

    def _best(self, ranker: LambdaMART, rows: Sequence[Example]) -> Lists:
        """`[L, K]`."""
        return np.stack(ranker.orders(rows))[:, : self._length]

    def _serve(self, number: int, ranker: LambdaMART, features: DatasetFeatures) -> Record:
        people, config = self._place.people, self._config
        slates = people.of_round(number, config.lists)
        scores = np.stack(ranker.scores(examples(slates, features, training=False)))
        greedy = np.argsort(-scores, axis=1, kind="stable")[:, : self._length]
        shown, sampled = self._explored(scores, greedy, number)
        worth = people.values(slates, shown.tolist())
        chances = [people.chances(slate, order) for slate, order in zip(slates, shown.tolist(), strict=True)]
        clicks = np.array([people.clicks(*pair) for pair in zip(slates, chances, strict=True)])
        asked = [slates[row] for row in np.flatnonzero(sampled)]
        lost = people.values(asked, greedy[sampled].tolist()).sum() - worth[sampled].sum()
        path = self._folder / f"round-{number}" / SHOWN
        np.savez_compressed(path, allow_pickle=False, shown=shown, clicks=clicks)
        told = {
            "lists": len(slates),
            "true_value": round(float(worth.mean()), 4),
            "clicks": round(float(clicks.sum(1).mean()), 4),
            "regret": round(float(lost) / len(slates), 4),
        }
        return {"served": told}

    def _explored(self, scores: Floats, greedy: Lists, number: int) -> tuple[Lists, NDArray[np.bool_]]:
        """What is shown, `[L, K]`, and which lists are sampled, `[L]`."""
        rng = np.random.default_rng([self._place.world, number])
        drawn = scores / self._config.exploration_temperature + rng.gumbel(size=scores.shape)
        sampled: NDArray[np.bool_] = rng.random(len(scores)) < self._config.share(self._arm)
        other = np.argsort(-drawn, axis=1)[:, : self._length]
        return np.where(sampled[:, None], other, greedy), sampled

    def _logged(self, number: int) -> list[LoggedSlate]:
        """A round's lists with what was shown and clicked."""
        slates = self._place.people.of_round(number, self._config.lists)
        with np.load(self._folder / f"round-{number}" / SHOWN) as kept:
            shown, clicks = kept["shown"], kept["clicks"]
        found = []
        for slate, order, own in zip(slates, shown, clicks, strict=True):
            labels = np.zeros(len(slate.candidates), np.float32)
            labels[order[own]] = 1.0
            found.append(replace(slate, shown=order, labels=labels))
        return found
