"""A page of slots: `python -m examples.video BUNDLE`. One hero, then rows that show nothing twice; what the
person has begun to watch keeps the second slot of the first row, and no row has two of a series side by side.
"""

from pathlib import Path

from eglr_client import Client

from launch.bundles import bundle_argument
from launch.service import ServiceProcess
from loadtest.payloads import read_item_ids

ROWS, ROW = 3, 6


def main(bundle: Path) -> list[list[str]]:
    videos = read_item_ids(bundle)[:40]
    series = {f"series {number}": videos[4 * number : 4 * number + 4] for number in range(6)}
    begun, person = videos[5], "ada"
    with (
        ServiceProcess(bundle, "--drain-s", "0", "--log-level", "warning") as service,
        Client(service.url, deadline_ms=2000) as client,
    ):
        hero = client.rerank(videos, user_id=person, top_n=1, constraints={"excluded": [begun]})
        rows, shown = [hero.ids], list(hero.ids)
        for row in range(ROWS):
            pinned = [{"id": begun, "position": 1}] if row == 0 else []
            ranking = client.rerank(
                [video for video in videos if video not in shown],
                user_id=person,
                top_n=ROW,
                constraints={
                    "pinned": pinned,
                    "at_most": [{"group": name, "count": 1, "window": 2} for name in series],
                    "groups": series,
                },
            )
            rows.append(ranking.ids)
            shown += ranking.ids
    for name, ids in zip(["hero", *(f"row {row + 1}" for row in range(ROWS))], rows, strict=True):
        print(f"{name}: {' '.join(ids)}")
    return rows


if __name__ == "__main__":
    main(bundle_argument(__doc__))
