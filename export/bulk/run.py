"""Parts of a job, one after the other, in this process."""

import gc
from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from engine.loaded_model import LoadedModel
from export.bulk.job import Done, Job
from export.bulk.lists import BulkReranker, lists_table, refused_table
from export.bulk.requests import COLUMNS, ITEMS
from export.bulk.source import Part, Rows, columns_of
from service.settings import Settings


def keep_garbage() -> None:
    """Look for garbage rarely: rows make many objects, none of them in a circle, and each look takes long."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


def run(
    job: Job, parts: Sequence[Part], settings: Settings, model: LoadedModel | None = None
) -> Iterator[tuple[Part, Done]]:
    """Make parts, in their order.

    Args:
        model: the job's bundle, if it is open already.

    Raises:
        InputError, BundleError, JobError: an input or the bundle is damaged, or the output cannot be written.
    """
    if not parts:
        return
    reranker = BulkReranker(model or LoadedModel.open(job.bundle), settings, job.at)
    for index, of_file in groupby(parts, key=lambda part: part.file):
        path = job.files[index].path
        columns = columns_of(path, job.source.schema(path), COLUMNS, ITEMS)
        batches = job.source.rows(path, list(of_file), columns)
        for part, of_part in groupby(batches, key=lambda rows: rows.part):
            yield part, _make(job, reranker, path, part, of_part)


def _make(job: Job, reranker: BulkReranker, path: str, part: Part, batches: Iterator[Rows]) -> Done:
    lists: list[pa.Table] = []
    refused: list[pa.Table] = []
    for rows in batches:
        read, found = reranker.rerank(rows.batch)
        answers = list(enumerate(found))
        made = [(rows.start + place, answer) for place, answer in answers if not isinstance(answer, str)]
        aside = [(rows.start + place, read[place], why) for place, why in answers if isinstance(why, str)]
        if made:
            lists.append(lists_table(path, [row for row, _ in made], [answer for _, answer in made]))
        if aside:
            refused.append(refused_table(path, aside))
    return job.write(part, lists, refused)
