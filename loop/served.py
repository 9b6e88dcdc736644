"""A policy in the loop: served, logged, retrained warm, judged, and replaced while requests go on.

Every stage of a round leaves something on disk and is not done again, so an interrupted round goes on.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bundle.repository import point
from engine.loaded_model import LoadedModel
from evidence.grid import digest
from export.__main__ import export
from export.evaluate import generate, orders_of
from export.promotion import BY_LOG, HELD_OUT, Verdict, refused, verdicts
from loop.audit import copy_lines, settled
from loop.config import OWN_LOG, Arm
from loop.live import LiveService
from loop.people import Floats
from loop.place import Place, keep, rounds_of, values_of
from loop.traffic import Callers, Shown
from loop.worth import Record, Watch, provenance, worth
from model.data.decision_log import write_events
from model.data.features import DatasetFeatures
from model.data.slate import LoggedSlate, split_of
from model.progress import console
from model.train import train
from model.training.checkpoint import load_evaluator, load_features, save_text
from model.training.config import with_changes
from model.training.examples import Example, examples
from model.training.selection import rewards

MODEL = "eglr"
ASIDE = (HELD_OUT,)
"""Labels of a log praise what was shown: nobody clicks on what only a new model shows."""

PASSING_BY = 200
"""People whose lists are asked for, over and over, while the model is replaced."""


class ServedArm:
    """An arm in one world."""

    def __init__(self, place: Place, arm: Arm) -> None:
        self._place, self._arm, self._config = place, arm, place.config
        self._folder = place.of_arm(arm)
        self._models = self._folder / MODEL

    def run(self) -> None:
        """Every round that is not finished.

        Raises:
            RerankerError: the loop cannot go on.
        """
        records = rounds_of(self._folder)
        if len(records) > self._config.rounds:
            return
        if not records:
            records = [self._before()]
        shutil.rmtree(self._folder / "decisions", ignore_errors=True)  # of a round that was interrupted
        point(self._models, records[-1]["version"])
        share, temperature = self._config.share(self._arm), self._config.exploration_temperature
        with LiveService(self._models, self._folder, share, temperature) as live:
            while len(records) <= self._config.rounds:
                records.append(self._round(len(records), records[-1]["version"], live))

    def _before(self) -> Record:
        """Round 0: what a training on the log before the loop gives."""
        watch, own = self._watch(0), self._folder / "round-0"
        own.mkdir(exist_ok=True)
        with watch.stage("training"):
            run = self._first_run()
        with watch.stage("export"):
            self._export(run, 0)
        point(self._models, "0")
        with watch.stage("true value"):
            values, score = self._judge(run, self._models / "0")
        record = {
            **self._common(0, values, values, score),
            "version": "0",
            "seconds": watch.seconds,
        }
        keep(self._folder, 0, record, values)
        return record

    def _round(self, number: int, live_version: str, live: LiveService) -> Record:
        """Serve, learn, judge, replace."""
        watch, own = self._watch(number), self._folder / f"round-{number}"
        own.mkdir(exist_ok=True)
        with watch.stage("serving"):
            served = self._served(number, live_version, live)
        with watch.stage("training"):
            run = self._retrained(number, live_version)
        with watch.stage("export"):
            self._export(run, number)
        with watch.stage("judging"):
            found = self._verdicts(number, live_version)
        against = refused(found)
        swap: dict[str, int] = {}
        if not against:
            point(self._models, str(number))
            with watch.stage("promotion"):
                swap = self._promoted(live)
        with watch.stage("true value"):
            values, score = self._judge(run, self._models / str(number))
        candidate = float(values.mean())
        if against:  # the one before goes on
            values = values_of(self._folder, number - 1)
            score = rounds_of(self._folder)[-1]["evaluator_score"]
        before = values_of(self._folder, 0)
        record = {
            **self._common(number, values, before, score),
            "version": live_version if against else str(number),
            "refused": against,
            "candidate": round(candidate, 4),
            "verdicts": {one.question: [one.passed, one.because] for one in found},
            "off_policy": next((one.figures for one in found if one.question == BY_LOG), {}),
            **served,
            "promotion": swap,
            "seconds": watch.seconds,
        }
        keep(self._folder, number, record, values)
        return record

    def _watch(self, number: int) -> Watch:
        return Watch(f"world {self._place.world}, {self._arm.name}, round {number}")

    def _common(self, number: int, values: Floats, before: Floats, score: float) -> Record:
        found = worth(values, before, self._place.references)
        console.print(f"{self._watch(number).title}: true value {found['value']}, gain {found['gain']}")
        return {
            "world": self._place.world,
            "arm": self._arm.name,
            "round": number,
            **found,
            "evaluator_score": round(score, 4),
            "hacking_gap": round(score - float(values.mean()), 4),
            **provenance(),
        }

    def _first_run(self) -> Path:
        """What arms with the same training have in common."""
        cold = {"evaluator": {"warm_epochs": 0}}  # what only retraining does makes no other training
        config = with_changes(self._config.run_config(self._place.world, self._arm), cold)
        run = self._place.folder / f"start-{digest(config.model_dump(mode='json'))}"
        log = self._place.first_log
        with self._place.alone(run.name):
            train(with_changes(config, {**OWN_LOG, "event_log": log}), run)
        return run

    def _run_of(self, version: str) -> Path:
        return self._first_run() if version == "0" else self._folder / f"round-{version}" / "run"

    def _served(self, number: int, version: str, live: LiveService) -> Record:
        """What came of this round's people, and their part of the decision log as one of its own."""
        own = self._folder / f"round-{number}"
        path = own / "served.json"
        if path.exists():
            kept: Record = json.loads(path.read_text())
            return kept
        place, config = self._place, self._config
        slates = place.people.of_round(number, config.lists)
        callers = Callers(live.port, config.connections)
        halfway = live.restart if number == config.restart_in else lambda: None
        shown = callers.serve(place.people, slates, version, config.repeated, halfway)
        found = settled(live.decisions, shown)
        people = {slate.user_id for slate in slates}
        copy_lines(live.decisions, people, own / "decisions")
        copy_lines(live.decisions, {one for one in people if split_of(one) == "test"}, own / "judging")
        tally = write_events(own / "decisions", own / "events.jsonl.gz")
        console.print(f"{own / 'decisions'}: {tally}")
        record = {
            "served": {
                "lists": len(shown),
                "true_value": round(sum(one.worth for one in shown) / len(shown), 4),
                "clicks": round(sum(one.clicks for one in shown) / len(shown), 4),
                "regret": round(self._regret(slates, shown, version), 4),
                "restarted": number == config.restart_in,
            },
            "requests": asdict(callers.counts),
            "feedback": {**found, "joined": tally.events},
        }
        save_text(path, json.dumps(record, indent=1))
        return record

    def _regret(self, slates: Sequence[LoggedSlate], shown: Sequence[Shown], version: str) -> float:
        """True value that exploration cost, mean over all lists."""
        explored = [(slate, one) for slate, one in zip(slates, shown, strict=True) if one.sampled]
        if not explored:
            return 0.0
        asked = [slate for slate, _ in explored]
        model = LoadedModel.open(self._models / version)
        greedy = self._place.people.values(asked, orders_of(generate(model, _examples(model, asked))))
        return float(greedy.sum() - sum(one.worth for _, one in explored)) / len(shown)

    def _retrained(self, number: int, version: str) -> Path:
        """From the live model's weights, on everything that was logged so far."""
        own, log = self._folder / f"round-{number}", self._folder / f"round-{number}" / "log.jsonl.gz"
        parts = [self._folder / f"round-{earlier}" / "events.jsonl.gz" for earlier in range(1, number + 1)]
        with log.open("wb") as whole:  # members of one gzip file
            for part in (self._place.first_log, *parts):
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)
        config = self._config.run_config(self._place.world, self._arm, again=True)
        train(with_changes(config, {**OWN_LOG, "event_log": log}), own / "run", self._run_of(version))
        return own / "run"

    def _export(self, run: Path, number: int) -> None:
        if not (self._models / str(number)).exists():
            export(run, self._models, version=str(number), current=False)

    def _verdicts(self, number: int, version: str) -> list[Verdict]:
        """By the lists of people whom nobody has learned from."""
        path = self._folder / f"round-{number}" / "verdicts.json"
        if not path.exists():
            new, live = (self._models / one for one in (str(number), version))
            judging = self._folder / f"round-{number}" / "judging"
            found = []
            for one in verdicts(new, live, judging, self._config.gate, ASIDE):
                console.print(f"{one.question}: {one.passed}: {one.because}")
                found.append(asdict(one))
            save_text(path, json.dumps(found, indent=1))
        return [Verdict(**one) for one in json.loads(path.read_text())]

    def _promoted(self, live: LiveService) -> dict[str, int]:
        """What came of the requests meanwhile."""
        callers = Callers(live.port, 1)
        with callers.passing_by(self._place.people.held_out[:PASSING_BY]) as counts:
            live.promote()
        return {name: getattr(counts, name) for name in ("sent", "answered", "failed", "unanswered")}

    def _judge(self, run: Path, bundle: Path) -> tuple[Floats, float]:
        """True value of each held-out list, written greedily by the engine that serves, and the mean of what
        the run's evaluator makes of them. `[L]`."""
        people, model = self._place.people, LoadedModel.open(bundle)
        rows = _examples(model, people.held_out)
        orders = orders_of(generate(model, rows))
        evaluator = load_evaluator(run, load_features(run))
        return people.values(people.held_out, orders), float(rewards(evaluator, rows, orders).mean())


def _examples(model: LoadedModel, slates: Sequence[LoggedSlate]) -> list[Example]:
    return examples(slates, DatasetFeatures(model.features), training=False)
