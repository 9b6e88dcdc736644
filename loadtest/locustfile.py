"""Locust's entry point: simulated visitors who re-rank a list and give feedback on what they were shown.

    locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080 --items-file bundles/ranklens \\
        --users 8 --spawn-rate 8 --run-time 60s --slo-p99-ms 50

Exit code: 0 when every objective was kept, 1 when not, 2 when the options make no sense. Fallbacks are
answered with 200, so they are told by the body, and counted in rows of their own. Every answer is checked.

Closed loop: a visitor sends its next request only after the answer to its last, so a slow service is sent
less. What would have arrived meanwhile is neither sent nor timed (coordinated omission): under saturation
the percentiles flatter the service. Read them as the latency of so many concurrent callers, not as that of
an arrival rate. An open-loop mode is to come.
"""

import json
import logging
import sys
from itertools import count
from pathlib import Path
from typing import Any

from answers import fault
from locust import FastHttpUser, events, log, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import StatsEntry
from payloads import Traffic, Visitors, read_item_ids
from slo import Measured, Objectives, breaches

RERANK, FEEDBACK = "/v1/rerank", "/v1/feedback"

logger = logging.getLogger(__name__)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    def add(name: str, kind: type, default: object, text: str) -> None:
        environment = "LOCUST" + name[1:].replace("-", "_").upper()
        group.add_argument(name, type=kind, default=default, env_var=environment, help=text)

    group = parser.add_argument_group("What is sent")
    add("--items-file", str, "", "item ids: a bundle, its catalogue.npz, .jsonl or .csv with `id` (required)")
    add("--list-sizes", str, "24,50,100", "candidates per request, equally likely; repeat one to weigh it")
    add("--top-n", int, 10, "results asked for")
    add("--deadline-ms", float, None, "deadline of each request; the service's own if absent")
    add("--known-users", int, 1000, "users that come back, by Zipf's law")
    add("--cold-share", float, 0.1, "share of requests from users never seen before")
    add("--pause-s", float, 0.1, "mean pause of a visitor between two requests, exponential; 0 for none")
    add("--seed", int, 0, "the same seed sends the same; a store that keeps users wants a new one each run")
    group = parser.add_argument_group("Objectives, each the most there may be")
    add("--slo-p99-ms", float, 100.0, "99th percentile of reranks, which Locust keeps to two digits")
    add("--slo-error-ratio", float, 0.0, "errors and wrong answers of all requests")
    add("--slo-fallback-ratio", float, 0.01, "reranks answered with the caller's order")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Read what every visitor shares, once."""
    options = environment.parsed_options
    try:
        if not options.items_file:
            raise ValueError("--items-file is required")
        Visitor.traffic = Traffic(
            list_sizes=tuple(int(size) for size in options.list_sizes.split(",")),
            top_n=options.top_n,
            deadline_ms=options.deadline_ms,
            known_users=options.known_users,
            cold_share=options.cold_share,
        )
        Visitor.item_ids = read_item_ids(Path(options.items_file))
        Visitors(Visitor.item_ids, Visitor.traffic, options.seed, (0,))
    except (OSError, KeyError, ValueError) as error:
        print(f"the load test cannot start: {error}", file=sys.stderr)
        sys.exit(2)


class Visitor(FastHttpUser):
    """One closed-loop caller with its own stream of requests, each on behalf of some user of the site."""

    connection_timeout = network_timeout = 10.0

    traffic: Traffic
    item_ids: list[str]
    _numbers = count()

    def on_start(self) -> None:
        stream = (self.environment.runner.worker_index, next(self._numbers))
        self._options = self.environment.parsed_options
        self._visitors = Visitors(self.item_ids, self.traffic, self._options.seed, stream)

    def wait_time(self) -> float:
        return self._visitors.pause_s(self._options.pause_s)

    @task
    def visit(self) -> None:
        answer = self._rerank(self._visitors.rerank())
        feedback = None if answer is None else self._visitors.feedback(answer)
        if feedback is not None:
            self.client.post(FEEDBACK, json=feedback)

    def _rerank(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, if it is a good one."""
        with self.client.post(RERANK, json=body, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(getattr(response, "error", None) or f"status {response.status_code}")
                return None
            try:
                answer = json.loads(response.content)
            except ValueError:
                answer = None
            wrong = fault(body, answer)
            if wrong is not None:
                response.failure(wrong)
                return None
            if answer["fallback"] is not None:
                response.request_meta["name"] = f"{RERANK} fallback={answer['fallback']}"
            return answer


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code by the objectives. Workers report to their master, which judges."""
    if environment.runner is None or isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    objectives = Objectives(options.slo_p99_ms, options.slo_error_ratio, options.slo_fallback_ratio)
    found = breaches(objectives, measure(environment))
    for line in found:
        logger.error("objective missed: %s", line)
    environment.process_exit_code = 1 if found else 0


def measure(environment: Environment) -> Measured:
    """What the objectives are about, out of Locust's statistics."""
    stats = environment.stats
    rows = [row for (name, _), row in stats.entries.items() if name.partition(" ")[0] == RERANK]
    reranks = StatsEntry(stats, RERANK, "POST")
    for row in rows:
        reranks.extend(row)
    failed_tasks = sum(exception["count"] for exception in environment.runner.exceptions.values())
    return Measured(
        requests=stats.total.num_requests,
        errors=stats.total.num_failures,
        reranks=reranks.num_requests,
        fallbacks=sum(row.num_requests for row in rows if row.name != RERANK),
        p99_ms=reranks.get_response_time_percentile(0.99),
        exceptions=failed_tasks + log.unhandled_greenlet_exception,
    )
