"""`python -m service --bundle DIR`: the command line. Knows nothing of what is served, or how."""

import argparse
import signal
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from bundle.repository import Repository
from service.observe import logs
from service.serving.changes import FAULTS, starting
from service.settings import ENV_PREFIX, Settings


def read_settings(arguments: Sequence[str]) -> Settings:
    """Settings from the command line, then the environment, then their defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a bundle. Every option may also be set in the environment, under the name in "
        "brackets; the command line takes precedence.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        default = "required" if field.default is PydanticUndefined else f"default {field.default}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.description} ({default}) [{ENV_PREFIX}{name.upper()}]".replace("%", "%%"),
        )
    try:
        return Settings(**vars(parser.parse_args(arguments)))
    except ValidationError as error:
        faults = [  # of several settings the message names one
            ": ".join(str(part).replace("_", "-") for part in (*e["loc"][:1], ""))
            + e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        ]
        parser.exit(2, f"{parser.prog}: error: {'; '.join(f'--{fault}' for fault in faults)}\n")


def main(arguments: Sequence[str]) -> int:
    settings = read_settings(arguments)
    logs.configure(settings)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # from now on; later whoever serves tells of it
    try:
        plan = starting(Repository(settings.bundle), settings)
    except FAULTS as error:
        print(error, file=sys.stderr)
        return 2
    # Not at the top: a supervisor of several workers leaves what serves to them.
    if settings.workers > 1:
        from service.process.supervisor import supervise

        return supervise(settings, plan)
    from service.process.server import serve

    return serve(settings, plan)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
