"""Explore, log, and judge without showing: `python -m examples.exploration BUNDLE`. Half of the lists are
sampled, the service logs them with their propensities, people click (here by a rule of ours), and the log
then says what the same model is worth as it explored, and would be without.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from eglr_client import Client, Event

from evidence.judging import SHRUNK, Judgement
from evidence.off_policy import judge_bundle, show
from launch.bundles import bundle_argument
from launch.service import ServiceProcess
from loadtest.payloads import read_item_ids
from model.progress import progress


def main(bundle: Path, lists: int = 600) -> Judgement:
    items, rng = read_item_ids(bundle), random.Random(0)
    with TemporaryDirectory() as directory:
        exploring = {
            "RERANK_DECISION_LOG": directory,
            "RERANK_EXPLORATION_SHARE": "0.5",
            "RERANK_EXPLORATION_TEMPERATURE": "1.0",
        }
        with (
            ServiceProcess(bundle, "--drain-s", "0", "--log-level", "warning", **exploring) as service,
            Client(service.url, deadline_ms=5000) as client,
        ):
            for number in progress(range(lists), "lists"):
                ranking = client.rerank(
                    rng.sample(items, 12), user_id=f"u{number % 200}", top_n=5, strict=True
                )
                assert ranking.recommendation_id is not None
                clicks = [
                    Event(result.id, "click", position=place)
                    for place, result in enumerate(ranking.results)
                    if rng.random() < (0.4 if liked(result.id) else 0.1) / (1 + 0.3 * place)
                ]
                if clicks:
                    client.feedback(ranking.recommendation_id, clicks)
        for share in (0.5, 0.0):
            found, _, _ = judge_bundle(Path(directory), bundle, share=share, temperature=1.0)
            print(f"if {share:.0%} of its lists were sampled:")
            show(found)
    print(f"by {SHRUNK}, greedy: {found.estimates[SHRUNK].value}")
    return found


def liked(item_id: str) -> bool:
    """What people like, which nobody else knows."""
    return sum(item_id.encode()) % 3 == 0


if __name__ == "__main__":
    main(bundle_argument(__doc__))
