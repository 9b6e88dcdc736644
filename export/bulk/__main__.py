"""Re-rank in bulk: `python -m export.bulk --bundle bundles/mine --input requests.parquet --output lists`.

A row of the input is a request, with the profile and the history of its user as columns; docs/bulk.md has the
columns. Lists are those that the service answers. Run again, it goes on where it stopped.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bundle.errors import RerankerError, faults_told, in_a_line
from bundle.repository import locate
from export.bulk.job import Done, Job
from export.bulk.run import keep_garbage, run
from export.bulk.source import Part
from model.progress import console
from service.settings import Settings

PART_ROWS = 20_000


def rerank(
    bundle: Path,
    uri: str,
    output: Path,
    part_rows: int = PART_ROWS,
    at: float | None = None,
    ray: str | None = None,
) -> Done:
    """Make what is missing of a job, and say what all of it came to.

    Args:
        at: unix seconds, the time of requests that do not say theirs; when the job began if None.
        ray: address of a Ray cluster, `local` to start one here; None for this process alone.

    Raises:
        RerankerError: an input, the bundle or the output is no good; the message says which.
    """
    bundle = locate(bundle)
    given: dict[str, Any] = {"bundle": bundle}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise RerankerError(f"settings of the service: {in_a_line(error)}") from None
    job = Job.open(bundle, uri, output, part_rows, at, now=time())
    with job.alone():
        parts = job.missing()
        if kept := len(job.parts) - len(parts):
            console.print(f"{output}: {kept} of {len(job.parts)} parts are there already")
        if ray is None:
            made = run(job, parts, settings)
        else:
            try:
                from export.bulk.on_ray import run_on_ray  # an extra
            except ModuleNotFoundError as error:
                raise RerankerError(f"{error}: install the extra `ray`") from None
            made = run_on_ray(job, parts, settings, ray)
        _follow(job, parts, made)
        return job.done()


def _follow(job: Job, parts: list[Part], made: Iterator[tuple[Part, Done]]) -> None:
    """Show parts as they are made; a line a part where there is no terminal."""
    total, began, rows, refused = sum(part.rows for part in parts), monotonic(), 0, 0
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("re-ranking", total=total)
        for part, done in made:
            rows, refused = rows + part.rows, refused + done.refused
            rate = rows / max(monotonic() - began, 1e-9)
            told = f"{rows} of {total} rows, {rate:.0f} a second, {refused} refused"
            shown.update(task, completed=rows, description=told)
            if not console.is_terminal:
                console.print(f"part {part.number} of {job.files[part.file].path}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.bulk", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle, or a model's folder")
    parser.add_argument("--input", required=True, help="Parquet: a file or a directory, a path or a URI")
    parser.add_argument(
        "--output", type=Path, required=True, help="a directory; a job's own to go on with it"
    )
    parser.add_argument("--part-rows", type=_positive, default=PART_ROWS, help="rows a file of the output")
    parser.add_argument(
        "--at", type=float, help="unix seconds, the time of requests without one; now if absent"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster; `local` starts one here")
    arguments = parser.parse_args()
    asked = arguments.bundle, arguments.input, arguments.output, arguments.part_rows, arguments.at
    keep_garbage()
    try:
        with faults_told():
            done = rerank(*asked, ray=arguments.ray)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    console.print(f"{arguments.output}: {done.lists} lists; {done.refused} rows refused")
    if done.refused and not done.lists:
        raise SystemExit(f"{arguments.output}/refused: every row was refused; the reasons stand there")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


if __name__ == "__main__":
    main()
