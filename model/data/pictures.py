"""Three pictures of a log: labels by position, lists by person, lists over time."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from model.data.overview import Overview
from model.data.slate import SPLITS, Dataset

BLUE = "#4c72b0"
BINS = 60


def draw(dataset: Dataset, directory: Path) -> list[Path]:
    """Write the pictures as PNG into a directory, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {"labels_by_position": _labels, "lists_by_person": _people, "lists_over_time": _time}
    overview = Overview(dataset)
    return [_drawn(overview, plot, directory / f"{name}.png") for name, plot in pictures.items()]


def _drawn(overview: Overview, plot: Callable[[Overview, Axes], None], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    plot(overview, axes)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _labels(overview: Overview, axes: Axes) -> None:
    shares = overview.labels_by_position
    axes.bar(range(1, 1 + len(shares)), shares, color=BLUE)
    axes.set_xlabel("position shown")
    axes.set_ylabel("share of lists clicked there")


def _people(overview: Overview, axes: Axes) -> None:
    counts = overview.lists_by_person
    axes.plot(range(1, 1 + len(counts)), counts[::-1], color=BLUE)
    if counts:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel("people, most lists first")
    axes.set_ylabel("lists")


def _time(overview: Overview, axes: Axes) -> None:
    times = [np.array(overview.times[split]) for split in SPLITS]
    everything = np.concatenate(times)
    if len(everything):
        edges = np.linspace(everything.min(), everything.max() + 1.0, BINS)
        dates = [datetime.fromtimestamp(edge, UTC) for edge in edges]
        for split, own in zip(SPLITS, times, strict=True):
            axes.stairs(np.histogram(own, edges)[0], date2num(dates), label=split)
        axes.xaxis_date()
        axes.legend(frameon=False)
    axes.set_ylabel("lists")
