"""The whole path on real lists: train, export, serve, re-rank over HTTP. Run by `make demo`.

Everything goes through the same commands a user would type; the service is a process of its own on
loopback with the in-process context store, and is gone when this ends.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from launch.service import ServiceProcess
from model.data.location import DataUnavailableError
from model.data.open_dataset import open_dataset
from model.data.slate import Dataset, LoggedSlate
from model.metrics import ndcg
from model.progress import console, progress
from model.training.config import RunConfig, read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", type=Path, default=Path("configs/ranklens.toml"))
    parser.add_argument("--full", action="store_true", help="train fully instead of --quick")
    parser.add_argument("--directory", type=Path, default=Path(), help="where runs/ and bundles/ are written")
    arguments = parser.parse_args()
    config, dataset, path = dataset_or_simulator(arguments.config)
    name = config.dataset if arguments.full else f"{config.dataset}-quick"
    run, bundle = arguments.directory / "runs" / name, arguments.directory / "bundles" / name

    quick = [] if arguments.full else ["--quick"]
    python("-m", "model.train", "--config", str(path), "--run", str(run), "--device", "cpu", *quick)
    python("-m", "export", "--run", str(run), "--bundle", str(bundle))
    test = dataset.slates["test"]
    service = ServiceProcess(bundle.resolve(), "--drain-s", "0", "--log-level", "warning")
    say(service.command)
    with service, httpx.Client(base_url=service.url, timeout=10) as client:
        answers = [rerank(client, slate) for slate in progress(test, "re-ranking the test split over HTTP")]
    show(dataset, test, answers)
    figures = quality(dataset, test, [order_of(answer) for answer in answers])
    figures["reasoning_tokens_per_list"] = statistics.mean(a["reasoning"]["tokens"] for a in answers)
    told = " ".join(f"{name}={value:.4f}" for name, value in figures.items())
    p50_ms = statistics.median(answer["client_ms"] for answer in answers)
    console.print(f"demo: ok dataset={dataset.name} {told} p50_ms={p50_ms:.2f} bundle={bundle}")


def order_of(answer: dict[str, Any]) -> NDArray[np.int64]:
    """Candidate indices of an answer, in its order."""
    return np.array([result["index"] for result in answer["results"]])


def quality(
    dataset: Dataset, slates: Sequence[LoggedSlate], orders: list[NDArray[np.int64]]
) -> dict[str, float]:
    """How good lists are on average, and `initial`, as they came: by true value where it is known, with the
    `oracle`'s beside it, else by NDCG@10."""
    value, oracle = dataset.true_value, dataset.oracle
    if value is None or oracle is None:
        labels = [slate.labels for slate in slates]
        initial = [np.arange(len(label)) for label in labels]
        found = {"ndcg@10": ndcg(orders, labels, 10), "initial": ndcg(initial, labels, 10)}
        return {name: float(np.nanmean(of_lists)) for name, of_lists in found.items()}
    of_lists = []
    for slate, order in zip(slates, orders, strict=True):
        shown = order.tolist(), range(len(order)), oracle(slate, len(order))
        of_lists.append([value(slate, one) for one in shown])
    return dict(zip(("true_value", "initial", "oracle"), np.mean(of_lists, axis=0).tolist(), strict=True))


def dataset_or_simulator(path: Path) -> tuple[RunConfig, Dataset, Path]:
    """The configured dataset, or the simulator if its data is unavailable."""
    config = read_config(path)
    try:
        return config, open_dataset(config), path
    except DataUnavailableError as error:
        console.print(f"{error}\nUsing simulated data instead.", style="yellow")
        path = Path("configs/simulator.toml")
        config = read_config(path)
        return config, open_dataset(config), path


def say(arguments: Sequence[str]) -> None:
    console.print(f"[dim]$ python {' '.join(arguments)}[/]")


def python(*arguments: str) -> None:
    """Run a command of this project to its end."""
    say(arguments)
    subprocess.run([sys.executable, *arguments], check=True)


def rerank(client: httpx.Client, slate: LoggedSlate) -> dict[str, Any]:
    """Tell the service what is known of the user, then ask for the list."""
    history = [{"item_id": event.item_id, "type": event.type} for event in slate.user.history]
    context = {"profile": dict(slate.user.profile), "history": history}
    client.put(f"/v1/users/{slate.user_id}/context", json=context).raise_for_status()
    body = {
        "request_id": slate.request_id,
        "user_id": slate.user_id,
        "items": [{"id": item_id} for item_id in slate.candidates],
        "context": {**slate.context, "timestamp": slate.timestamp},
        "explain": True,
    }
    started = time.perf_counter()
    response = client.post("/v1/rerank", json=body)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    if answer["fallback"] is not None:
        raise SystemExit(f"request {slate.request_id} fell back: {answer['fallback']}")
    return {**answer, "client_ms": elapsed_ms}


def show(dataset: Dataset, slates: list[LoggedSlate], answers: list[dict[str, Any]]) -> None:
    """One list before and after: the one with reasoning at the most positions, short of all."""
    reasoned = [sum(p["reasoning_tokens"] > 0 for p in answer["reasoning"]["trace"]) for answer in answers]
    row = max(range(len(answers)), key=lambda i: reasoned[i] % len(answers[i]["reasoning"]["trace"]))
    slate, trace = slates[row], answers[row]["reasoning"]["trace"]
    table = Table(title=f"list {slate.request_id}: * = clicked in the log, entropy in nats")
    for column in ("position", "before", "after"):
        table.add_column(column)
    for column in ("probability", "entropy", "after reasoning", "tokens"):
        table.add_column(column, justify="right")
    clicked = dict(zip(slate.candidates, slate.labels, strict=True))

    def title(item_id: str) -> str:
        name = dataset.items.get(item_id, {}).get("title", item_id)
        return f"{name}{' *' if clicked[item_id] else ''}"

    for position in trace:
        table.add_row(
            str(position["position"]),
            title(slate.candidates[position["position"]]),
            title(position["id"]),
            f"{position['probability']:.3f}",
            f"{position['entropy_before']:.3f}",
            f"{position['entropy_after']:.3f}",
            str(position["reasoning_tokens"]),
        )
    console.print(table)
    if dataset.true_value is not None:
        one = quality(dataset, [slate], [order_of(answers[row])])
        told = "expected clicks: {initial:.2f} before, {true_value:.2f} after, {oracle:.2f} by an oracle"
        console.print(told.format(**one))


if __name__ == "__main__":
    main()
