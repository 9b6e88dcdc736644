"""Parts of a job on Ray Data: actors hold the engine, one a core, and write the parts they are given.

Every machine of the cluster sees the bundle, the input and the output under the same paths. Of a part only
its number travels; what an actor leaves half written when it dies is made anew by the next that gets it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from engine.loaded_model import LoadedModel
from export.bulk.job import Done, Job, JobError
from export.bulk.run import keep_garbage, run
from export.bulk.source import Part, Source
from launch.ray_cluster import ray_cluster
from service.settings import Settings


class _Engine:
    """An actor."""

    def __init__(self, job: tuple[Any, ...], uri: str, settings: dict[str, Any]) -> None:
        bundle, files, parts, output, at = job
        self._job = Job(bundle, Source(uri), files, parts, output, at)
        self._settings = Settings(**settings)
        self._model = LoadedModel.open(bundle)
        keep_garbage()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        parts = [self._job.parts[number] for number in batch["number"].tolist()]
        made = [done for _, done in run(self._job, parts, self._settings, self._model)]
        return {
            "number": batch["number"],
            "lists": [done.lists for done in made],
            "refused": [done.refused for done in made],
        }


def run_on_ray(
    job: Job, parts: Sequence[Part], settings: Settings, address: str
) -> Iterator[tuple[Part, Done]]:
    """As `export.bulk.run.run`, in the order in which they are done.

    Args:
        address: of a cluster; `local` starts one on this machine, and ends it.

    Raises:
        NoRayError: no such cluster.
        JobError: what an actor raised.
    """
    if not parts:
        return
    with ray_cluster(address):
        resources: dict[str, float] = ray.cluster_resources()
        actors = max(1, min(len(parts), int(resources.get("CPU", 1))))
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.from_items(
            [{"number": part.number} for part in parts], override_num_blocks=len(parts)
        )
        made = numbers.map_batches(
            _Engine,
            fn_constructor_args=(
                (job.bundle.absolute(), job.files, job.parts, job.output.absolute(), job.at),
                job.source.uri,
                settings.model_dump(exclude_unset=True),
            ),
            batch_size=1,
            concurrency=actors,
            num_cpus=1,
        )
        try:
            for row in made.iter_rows():
                yield job.parts[row["number"]], Done(int(row["lists"]), int(row["refused"]))
        except ray.exceptions.RayError as error:
            told = str(error).strip().splitlines()[-1]
            raise JobError(f"on Ray: {told}; finished parts are kept") from error
