"""What a log holds, before anything is trained on it: `python -m model.data context LOG --config my.toml`.

`context` fits a click model with and without the order and the neighbours of a list, and says how much they
are worth on held-out lists, and so whether reasoning can pay at all.
"""

import argparse
from pathlib import Path

from bundle.errors import RerankerError
from model.training.config import read_config
from model.training.context import context_of_log


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.data", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    asked = commands.add_parser("context", help="what the order and the neighbours of a list are worth")
    asked.add_argument("log", type=Path, nargs="?", help="in the event format; else the configuration's data")
    asked.add_argument("--config", type=Path, required=True, help="TOML file that declares the log's fields")
    asked.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    changes: dict[str, object] = {"seed": arguments.seed}
    if arguments.log:
        changes |= {"dataset": "event_log", "event_log": arguments.log}
    try:
        context_of_log(read_config(arguments.config, changes))
    except (RerankerError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
