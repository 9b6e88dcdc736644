"""`python -m service --bundle DIR`: command line, server, signals. Knows nothing of what is served.

On SIGTERM or SIGINT readiness fails first, for `drain_s`, while requests are still answered; then the port
closes, open requests get `shutdown_timeout_s` to finish, and the exit code is 0.
"""

import argparse
import sys
from collections.abc import Sequence
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from model.manifest import BundleError, read_manifest
from service import logs
from service.app import create_app
from service.settings import ENV_PREFIX, Settings


class DrainingServer(uvicorn.Server):
    """Fails readiness before it closes the port. A second signal skips the wait."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._service, self._drain_s = app.state.service, drain_s
        self._close_at = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signal handler: takes notes, for `on_tick` to act on."""
        again = self._service.draining
        self._service.draining = True
        self._close_at = monotonic() + (0.0 if again else self._drain_s)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or monotonic() >= self._close_at


def read_settings(arguments: Sequence[str]) -> Settings:
    """Settings from the command line, then the environment, then their defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a bundle. Every option may also be set in the environment, under the name in "
        "brackets; the command line goes first.",
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
        faults = [f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors()]
        parser.error("; ".join(faults))


def main(arguments: Sequence[str]) -> int:
    settings = read_settings(arguments)
    logs.configure(settings)
    try:
        read_manifest(settings.bundle)
    except BundleError as error:
        print(error, file=sys.stderr)
        return 2
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    DrainingServer(config, app, settings.drain_s).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
