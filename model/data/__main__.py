"""What a log holds, before anything is trained on it: `python -m model.data check --config C --event-log L`.

`check` tells everything that is wrong with a log, and ends with exit code 1 if training would refuse it.
`schema LOG` proposes a configuration for a log, `convert MAPPING --out LOG` makes a log of tables.
`context` fits a click model with and without the order and the neighbours of a list, and says how much they
are worth on held-out lists, and so whether reasoning can pay at all. `from-decisions DIR --out LOG` joins
what the service logged with its feedback and writes it in the event format. `histories LOG --out FILE` writes
what is known of each person after the log, for `python -m service.load_histories`. `parquet LOG --out DIR`
writes a log as Parquet, `simulate --lists N --out LOG` makes one of the simulator's world.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.markup import escape

from bundle.errors import faults_told
from decisions.reading import WINDOW_S
from model.data.check import check
from model.data.convert import convert
from model.data.decision_log import write_events
from model.data.findings import Findings
from model.data.histories import write_histories
from model.data.log_lines import open_for_writing, read_values
from model.data.open_dataset import open_dataset, read_dataset
from model.data.parquet_log import write_rows
from model.data.schema_proposal import propose
from model.data.simulator import SimulatorConfig, log_events
from model.progress import console
from model.training.config import RunConfig, read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.data", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    checked = commands.add_parser("check", help="what a log holds, and what is wrong with it")
    checked.add_argument(
        "--config", type=Path, required=True, help="TOML file that declares the log's fields"
    )
    checked.add_argument("--event-log", type=Path, help="in the event format; else the configuration's data")
    checked.add_argument("--json", action="store_true", help="the report as JSON")
    checked.add_argument("--pictures", type=Path, metavar="DIR", help="draw labels, people and time into it")
    checked.set_defaults(run=_check)
    proposed = commands.add_parser("schema", help="a configuration for a log, with the fields that it has")
    proposed.add_argument("log", type=Path, help="in the event format")
    proposed.add_argument("--out", type=Path, help="TOML file to write; else it is printed")
    proposed.set_defaults(run=_schema)
    converted = commands.add_parser("convert", help="a log of CSV or Parquet tables")
    converted.add_argument("mapping", type=Path, help="TOML file that says which column is what")
    converted.add_argument("--out", type=Path, required=True, help="file to write, gzip if it ends in .gz")
    converted.add_argument("--schema", type=Path, metavar="TOML", help="also write what `schema` proposes")
    converted.set_defaults(run=_convert)
    packed = commands.add_parser("parquet", help="a log as Parquet, a folder a kind of event and a day")
    packed.add_argument("log", type=Path, help="in the event format")
    packed.add_argument("--out", type=Path, required=True, help="directory to write, new or empty")
    packed.set_defaults(run=_parquet)
    simulated = commands.add_parser("simulate", help="a log of the simulator in the event format")
    simulated.add_argument("--lists", type=_count, required=True)
    simulated.add_argument("--seed", type=int, default=0)
    simulated.add_argument("--out", type=Path, required=True, help="a .jsonl or .jsonl.gz; else Parquet")
    simulated.set_defaults(run=_simulate)
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
    with faults_told(ValueError):
        arguments.run(arguments)


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {count}")
    return count


def _check(arguments: argparse.Namespace) -> None:
    config = _config(arguments.config, arguments.event_log)
    console.quiet = arguments.json
    dataset = read_dataset(config)
    report, _ = check(dataset, config.features)
    sys.stdout.write(f"{report.to_json() if arguments.json else report}\n")
    if arguments.pictures:
        from model.data.pictures import draw  # matplotlib takes a second

        draw(dataset, arguments.pictures)
    if report.refused:
        raise SystemExit(1)


def _schema(arguments: argparse.Namespace) -> None:
    if arguments.out:
        _write_proposal(arguments.log, arguments.out)
    else:
        sys.stdout.write(propose(arguments.log))


def _write_proposal(log: Path, out: Path) -> None:
    out.write_text(propose(log), encoding="utf-8")
    console.print(escape(f"{out}: read it, above all ages, codes, `positive_types` and what is left out"))


def _convert(arguments: argparse.Namespace) -> None:
    console.print(escape(f"{arguments.out}: {convert(arguments.mapping, arguments.out)}"))
    if arguments.schema:
        _write_proposal(arguments.out, arguments.schema)


def _parquet(arguments: argparse.Namespace) -> None:
    found = Findings(largest_dirt_share=0.0)
    count = write_rows(read_values(arguments.log, found), arguments.out)
    found.refuse()
    console.print(escape(f"{arguments.out}: {count} events"))


def _simulate(arguments: argparse.Namespace) -> None:
    events = log_events(SimulatorConfig(seed=arguments.seed, lists=arguments.lists))
    if ".jsonl" in arguments.out.suffixes:
        with open_for_writing(arguments.out) as file:
            for event in events:
                file.write(json.dumps(event) + "\n")
    else:
        write_rows((("simulator", event) for event in events), arguments.out)
    console.print(escape(f"{arguments.out}: {arguments.lists} lists"))


def _from_decisions(arguments: argparse.Namespace) -> None:
    tally = write_events(arguments.directory, arguments.out, arguments.records, arguments.window)
    console.print(escape(f"{arguments.directory}: {tally}"))


def _histories(arguments: argparse.Namespace) -> None:
    changes: dict[str, object] = {"dataset": "event_log", "event_log": arguments.log}
    people = open_dataset(read_config(arguments.config, changes)).people
    write_histories(people, arguments.out)
    console.print(escape(f"{arguments.out}: {len(people)} people"))


def _context(arguments: argparse.Namespace) -> None:
    from model.training.context import context_of_log  # torch takes seconds

    context_of_log(_config(arguments.config, arguments.log, seed=arguments.seed))


def _config(path: Path, log: Path | None, **changes: object) -> RunConfig:
    of_log: dict[str, object] = {"dataset": "event_log", "event_log": log} if log else {}
    return read_config(path, {**changes, **of_log})


if __name__ == "__main__":
    main()
