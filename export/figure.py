"""A picture of an evaluation report: ranking quality beside the baselines, and entropy by position."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the PNG of a report of `export.evaluate`."""
    names = list(report["metrics"])
    values = [report["metrics"][name]["ndcg@10"] for name in names]
    figure, (quality, entropy) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    bars = quality.barh(
        names, values, color=["#c44e52" if n.startswith("EGLR") else "#8c9aae" for n in names]
    )
    quality.bar_label(bars, fmt="%.4f", padding=3)
    quality.invert_yaxis()
    quality.set(xlim=(0, 1.18 * max(values)), xlabel="NDCG@10")
    quality.set_title(f"{report['dataset']}, {report['split']} split, {report['lists']} lists", fontsize=10)

    reasoning = report["reasoning"]
    positions = range(len(reasoning["entropy_before"]))
    entropy.plot(positions, reasoning["entropy_before"], "o-", color="#4c72b0", label="before reasoning")
    entropy.plot(positions, reasoning["entropy_after"], "s--", color="#c44e52", label="after reasoning")
    entropy.set(xlabel="position", ylabel="mean entropy, nats", xticks=list(positions))
    entropy.set_ylim(0, 1.25 * max(reasoning["entropy_before"]))
    entropy.legend(loc="upper left", frameon=False)
    share = entropy.twinx()
    share.bar(positions, reasoning["trigger_rate_by_position"], color="#8c9aae", alpha=0.35, width=0.6)
    share.set(ylim=(0, 1), ylabel="share of positions that reason")
    entropy.set_title(
        f"{reasoning['trigger_rate']:.0%} of positions reason, "
        f"{reasoning['reasoning_tokens_per_list']:.1f} tokens a list",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
