"""`make load`: a load test of a bundle, headless, against a service it starts and stops; or of `--host`.

    python -m loadtest --bundle bundles/ranklens                    two minutes, an open loop that ramps up
    python -m loadtest --bundle bundles/ranklens --run-time 20s --slo-p99-ms 50

Any other option is passed to Locust (`locust -f loadtest/locustfile.py --help`). `locust.html`,
`summary.json`, two plots and the service's log are written to `--output`. Exit code: Locust's, which is 0 if
the objectives were met, 1 if not, 2 if the options are invalid; 3 if the service does not start.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from loadtest.plots import draw

DEFAULTS = {
    "--shape": "ramp",
    "--run-time": "2m",
    "--users": "20",
    "--user-rate": "5",
}
"""An open loop of up to 100 requests a second, which two cores shared by service and load can sustain."""
START_TIMEOUT_S = 60.0
STALL_AFTER_S = 5.0
NOT_STARTED = 3


class NotStartedError(RuntimeError):
    """The service ended, or was not ready in time."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description="Any other option is passed to Locust.", allow_abbrev=False
    )
    parser.add_argument(
        "--bundle", type=Path, required=True, help="bundle to serve, unless there is a --host"
    )
    parser.add_argument("--host", help="address of a running service, such as http://127.0.0.1:8080")
    parser.add_argument("--output", type=Path, default=Path("reports/load"), help="folder of the report")
    parser.add_argument(
        "--stall-s",
        type=float,
        default=0.0,
        help=f"{STALL_AFTER_S:g} s into the run the service stands still for so long (not with --host)",
    )
    options, rest = parser.parse_known_args(arguments)
    if "--replay" not in rest:
        given = {word.partition("=")[0] for word in rest}
        given |= {"--user-rate"} if "--pause-s" in given else set()  # a closed loop is asked for
        rest += [word for name, value in DEFAULTS.items() if name not in given for word in (name, value)]
    options.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the service is stopped
    try:
        if options.host is not None:
            return run(options.host, options.bundle, options.output, rest)
        with served(options.bundle, options.output / "service.log") as (address, service):
            stall = Timer(STALL_AFTER_S, stand_still, (service, options.stall_s))
            if options.stall_s:
                stall.start()
            try:
                return run(address, options.bundle, options.output, rest)
            finally:
                stall.cancel()
    except NotStartedError as error:
        print(error, file=sys.stderr)
        return NOT_STARTED


def run(address: str, bundle: Path, output: Path, rest: Sequence[str]) -> int:
    """Locust in a process of its own, because it patches the process it runs in; then the report."""
    summary_file = output / "summary.json"
    summary_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))]
    command += ["--headless", "--only-summary", "--loglevel", "WARNING", "--host", address]
    command += ["--items-file", str(bundle), "--html", str(output / "locust.html")]
    command += ["--summary-file", str(summary_file), *rest]
    with subprocess.Popen(command) as locust:
        try:
            code = locust.wait()
        finally:
            locust.terminate()
    if summary_file.exists():
        report(json.loads(summary_file.read_text()), output)
    return code


def report(summary: dict[str, Any], output: Path) -> None:
    """Plots, and a line that sums up the run."""
    draw(summary, output)
    rate = summary["most_offered_per_s"]
    offered = "" if rate is None else f", up to {rate:g}/s offered"
    verdict = "ok" if summary["passed"] else "objectives missed"
    print(
        f"load: {verdict}; {summary['arrivals']}, {summary['shape']}, seed {summary['seed']}{offered}: "
        f"{summary['reranks']} reranks, {summary['reranks_per_s']:g}/s, p50 {summary['p50_ms']} ms, "
        f"p99 {summary['p99_ms']} ms, errors {summary['error_ratio']:.2%}, "
        f"fallbacks {summary['fallback_ratio']:.2%}, storeless {summary['storeless_ratio']:.2%}; {output}/"
    )
    levels = sorted(summary["levels"], key=lambda level: level["users"])
    met = list(takewhile(lambda level: not level["breaches"], levels))
    if rate is not None and len(levels) > 1:
        print(f"load: objectives met up to {met[-1]['offered_per_s'] if met else 0:g}/s")
    if summary["late_ratio"] > 0.01:
        print(f"load: {summary['late_ratio']:.1%} were sent late: the sender is at its limit, add workers")
    for line in summary["breaches"]:
        print(f"load: objective missed: {line}")


def stand_still(service: "subprocess.Popen[bytes]", seconds: float) -> None:
    """As a long garbage collection, or another process on the same cores, would cause it."""
    service.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    service.send_signal(signal.SIGCONT)


@contextmanager
def served(bundle: Path, log: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A service of the bundle on a free loopback port, stopped at the end whatever happens.

    Yields its address and its process.

    Raises:
        NotStartedError: with the last line of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--port", str(port)]
    address, give_up = f"http://127.0.0.1:{port}", time.monotonic() + START_TIMEOUT_S
    with log.open("w") as lines, subprocess.Popen([*command, "--drain-s", "0"], stderr=lines) as service:
        try:
            while not _ready(address):
                if service.poll() is not None or time.monotonic() > give_up:
                    raise NotStartedError(f"the service does not start: {log.read_text().strip()[-500:]}")
                time.sleep(0.1)
            yield address, service
        finally:
            service.send_signal(signal.SIGCONT)
            service.terminate()
            try:
                service.wait(timeout=30)
            except subprocess.TimeoutExpired:
                service.kill()


def _ready(address: str) -> bool:
    try:
        with urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
