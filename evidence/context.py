"""What order and neighbours are worth to a click model, in nats a position: `python -m evidence.context`.

One fit a data set, in world 0 or on its own split, written to docs/results/context.json as each is done.
`python -m model.data context LOG` says the same of any log.
"""

import argparse
import json

import torch

from evidence.data import DATA, ONE, STRENGTHS
from evidence.results import CONTEXT, RESULTS
from export.provenance import commit
from model.progress import progress
from model.training.checkpoint import save_text
from model.training.context import context_of_log

LOGS = ("ranklens", "kuairand", "movietweetings")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence.context", description=__doc__.split("\n\n")[0])
    known = [*STRENGTHS, *LOGS]
    parser.add_argument("--data", nargs="+", choices=known, default=known)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / CONTEXT
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in progress(arguments.data, "data sets"):
        data = DATA[name] if name in LOGS else DATA[f"{name}-{ONE}"]
        report = context_of_log(data.run_config(0)).model_dump()
        found[name] = {key: round(value, 5) for key, value in report.items()} | {"commit": commit()}
        save_text(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
