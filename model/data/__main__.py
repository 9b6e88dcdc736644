"""What a log holds, before anything is trained on it: `python -m model.data context LOG --config my.toml`.

`context` fits a click model with and without the order and the neighbours of a list, and says how much they
are worth on held-out lists, and so whether reasoning can pay at all. `from-decisions DIR --out LOG` joins
what the service logged with its feedback and writes it in the event format. `histories LOG --out FILE` writes
what is known of each person after the log, for `python -m service.load_histories`.
"""

import argparse
from pathlib import Path

from bundle.errors import RerankerError
from decisions.reading import WINDOW_S
from model.data.decision_log import write_events
from model.data.histories import write_histories
from model.data.open_dataset import open_dataset
from model.progress import console
from model.training.config import read_config
from model.training.context import context_of_log


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.data", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    asked = commands.add_parser("context", help="what the order and the neighbours of a list are worth")
    asked.add_argument("log", type=Path, nargs="?", help="in the event format; else the configuration's data")
    asked.add_argument("--config", type=Path, required=True, help="TOML file that declares the log's fields")
    asked.add_argument("--seed", type=int, default=0)
    asked.set_defaults(run=_context)
    joined = commands.add_parser("from-decisions", help="a decision log of the service in the event format")
    joined.add_argument("directory", type=Path, help="of *.jsonl and *.jsonl.gz")
    joined.add_argument("--out", type=Path, required=True, help="file to write, gzip if it ends in .gz")
    joined.add_argument("--records", type=Path, help="item and user lines, for what was not sent with lists")
    joined.add_argument("--window", type=float, default=WINDOW_S, help="seconds in which feedback counts")
    joined.set_defaults(run=_from_decisions)
    known = commands.add_parser(
        "histories", help="profiles and histories, for python -m service.load_histories"
    )
    known.add_argument("log", type=Path, help="in the event format, or the directory of a decision log")
    known.add_argument("--config", type=Path, required=True, help="TOML file that declares the log's fields")
    known.add_argument("--out", type=Path, required=True, help="file to write, gzip if it ends in .gz")
    known.set_defaults(run=_histories)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (RerankerError, ValueError) as error:
        raise SystemExit(str(error)) from None


def _from_decisions(arguments: argparse.Namespace) -> None:
    tally = write_events(arguments.directory, arguments.out, arguments.records, arguments.window)
    console.print(f"{arguments.directory}: {tally}")


def _histories(arguments: argparse.Namespace) -> None:
    changes: dict[str, object] = {"dataset": "event_log", "event_log": arguments.log}
    people = open_dataset(read_config(arguments.config, changes)).people
    write_histories(people, arguments.out)
    console.print(f"{arguments.out}: {len(people)} people")


def _context(arguments: argparse.Namespace) -> None:
    changes: dict[str, object] = {"seed": arguments.seed}
    if arguments.log:
        changes |= {"dataset": "event_log", "event_log": arguments.log}
    context_of_log(read_config(arguments.config, changes))


if __name__ == "__main__":
    main()
