"""Locust's entry point: simulated visitors who re-rank a list and give feedback on what they were shown.

    locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080 --items-file bundles/ranklens \\
        --users 40 --user-rate 5 --shape ramp --run-time 2m --slo-p99-ms 50 --summary-file summary.json

Exit code: 0 if every objective was met on every level of the load, 1 if not, 2 if the options are invalid.
Fallbacks are answered with 200, so they are recognised by the body, and counted in rows of their own. Every
answer is checked.

Open loop (`--user-rate`, `--replay`): requests are sent when they are due, whether or not earlier ones have
been answered, and their latency counts from when they were due. Closed loop (neither): a visitor sends its
next request only after the answer to its last one, so a slow service receives less, and what would have
arrived meanwhile is neither sent nor timed (coordinated omission). docs/load-testing.md shows the difference.

Long, because Locust takes its options, users and events from one file.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from answers import fault
from gevent.pool import Pool
from locust import FastHttpUser, LoadTestShape, events, log, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from payloads import Traffic, Visitors, read_item_ids
from replay import feedback as recorded_feedback
from replay import read_replay
from shapes import SHAPES, Level, levels
from slo import ENOUGH, Measured, Objectives, breaches
from summary import settled, summarise
from timeline import ERROR, FALLBACK, FEEDBACK, FEEDBACK_ERROR, LATE, OK, STORELESS, Timeline

RERANK_ROUTE, FEEDBACK_ROUTE = "/v1/rerank", "/v1/feedback"
PROGRESS_S = 10.0
TIMEOUT_S = 10.0
LATE_S = 0.05

Body = dict[str, Any]
React = Callable[[Mapping[str, Any]], Body | None]
"""From an answer to the body of the feedback on it."""

logger = logging.getLogger(__name__)
timeline = Timeline()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    def add(name: str, kind: type, default: object, text: str, **more: Any) -> None:
        environment = "LOCUST" + name[1:].replace("-", "_").upper()
        group.add_argument(name, type=kind, default=default, env_var=environment, help=text, **more)

    group = parser.add_argument_group("When it is sent")
    add("--user-rate", float, None, "open loop: requests a second of each user; closed loop if absent")
    add("--replay", str, None, "open loop: send this recorded log; one user, no workers")
    add("--replay-speed", float, 1.0, "times as fast as recorded")
    add("--pause-s", float, 0.1, "closed loop: mean pause of a user between two requests; 0 for none")
    add("--shape", str, "steady", "load over the run time", choices=tuple(SHAPES))
    group = parser.add_argument_group("What is sent")
    add("--items-file", str, "", "item ids: a bundle, its catalogue.npz, .jsonl or .csv with `id` (required)")
    add("--list-sizes", str, "24,50,100", "candidates per request, equally likely; repeat one to weigh it")
    add("--top-n", int, 10, "results asked for")
    add("--deadline-ms", float, None, "deadline of each request; the service's own if absent")
    add("--known-users", int, 1000, "users that come back, by Zipf's law")
    add("--cold-share", float, 0.1, "share of requests from users never seen before")
    add("--burst-share", float, 0.2, "share of requests that follow the one before at once; 0: Poisson")
    add("--seed", int, 0, "the same seed sends the same; a store that keeps users wants a new one each run")
    told = "sent with every request; better in the environment, which `ps` does not show"
    parser.add_argument("--api-key", env_var="LOCUST_API_KEY", is_secret=True, help=told)
    group = parser.add_argument_group("Objectives, each the most there may be")
    least = Objectives()
    add("--slo-p99-ms", float, least.p99_ms, "99th percentile of reranks")
    add("--slo-error-ratio", float, least.error_ratio, "errors and wrong answers of all requests")
    add("--slo-fallback-ratio", float, least.fallback_ratio, "reranks answered with the caller's order")
    add("--slo-storeless-ratio", float, least.storeless_ratio, "reranks whose user could not be looked up")
    group = parser.add_argument_group("Report")
    add("--summary-file", str, None, "write what was measured to this JSON file")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Choose the kind of users and the shape. Workers are told by their master, when it starts."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    try:
        if options.replay is not None:
            if isinstance(environment.runner, MasterRunner) or options.shape != "steady":
                raise ValueError("--replay goes without workers and without a --shape")
            next(read_replay(Path(options.replay)))
            options.num_users = 1
        else:
            Caller.share(options)
        if options.shape != "steady" and not options.run_time:
            raise ValueError("a --shape needs a --run-time")
    except (OSError, KeyError, StopIteration, ValueError) as error:
        print(f"the load test cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    environment.user_classes = [ClosedLoop if options.user_rate is None else OpenLoop]
    if options.replay is not None:
        environment.user_classes = [Replay]
    if options.shape != "steady":
        environment.shape_class = Shape(options)


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        Caller.share(environment.parsed_options)
    else:
        environment.started_s = time.time()
        gevent.spawn(show_progress, environment)


class Shape(LoadTestShape):
    """Follows the levels of `--shape`."""

    use_common_options = True
    abstract = True  # for Locust: chosen by the option, not because it exists

    def __init__(self, options: Any) -> None:
        super().__init__()
        self._levels = levels(options.shape, options.run_time, options.num_users or 1)

    def tick(self) -> tuple[int, float] | None:
        now_s = self.get_run_time()
        return next(((level.users, 100.0) for level in self._levels if now_s < level.end_s), None)


class Caller(FastHttpUser):
    """Re-ranks, checks the answer, gives feedback, and notes when and how long it took."""

    abstract = True
    connection_timeout = network_timeout = TIMEOUT_S
    concurrency = 1000  # connections of one user; opened only as they are needed

    traffic: Traffic
    item_ids: list[str]
    _numbers = count()

    @classmethod
    def share(cls, options: Any) -> None:
        """Read what every user needs, once. Raises: OSError, KeyError, ValueError."""
        if not options.items_file:
            raise ValueError("--items-file is required")
        cls.traffic = Traffic(
            list_sizes=tuple(int(size) for size in options.list_sizes.split(",")),
            top_n=options.top_n,
            deadline_ms=options.deadline_ms,
            known_users=options.known_users,
            cold_share=options.cold_share,
            burst_share=options.burst_share,
        )
        cls.item_ids = read_item_ids(Path(options.items_file))
        Visitors(cls.item_ids, cls.traffic, options.seed, (0,))

    def __init__(self, environment: Environment) -> None:
        self.options = environment.parsed_options
        if self.options.api_key:
            self.default_headers = {"X-API-Key": self.options.api_key}
        super().__init__(environment)

    def on_start(self) -> None:
        if self.options.replay is None:
            stream = (self.environment.runner.worker_index, next(self._numbers))
            self.visitors = Visitors(self.item_ids, self.traffic, self.options.seed, stream)

    def exchange(self, body: Body, react: React, due_s: float | None = None) -> None:
        """A rerank and the feedback on it. Latency counts from `due_s`, unix seconds, if it is given."""
        now_s = time.time()
        if due_s is not None and now_s - due_s > LATE_S:
            timeline.add(due_s, LATE, (now_s - due_s) * 1000)
        answer = self._rerank(body, now_s if due_s is None else due_s)
        given = None if answer is None else react(answer)
        if given is not None:
            with self.client.post(FEEDBACK_ROUTE, json=given, catch_response=True) as response:
                outcome = FEEDBACK if response.status_code == 202 else FEEDBACK_ERROR
                if outcome is FEEDBACK_ERROR:
                    response.failure(_why(response))
                timeline.add(time.time(), outcome, response.request_meta["response_time"])

    def _rerank(self, body: Body, due_s: float) -> Mapping[str, Any] | None:
        """The answer, if it is right."""
        with self.client.post(RERANK_ROUTE, json=body, catch_response=True) as response:
            response.request_meta["response_time"] = latency_ms = (time.time() - due_s) * 1000
            answer, wrong = None, None
            if response.status_code != 200:
                wrong = _why(response)
            else:
                try:
                    answer = json.loads(response.content)
                except ValueError:
                    answer = None
                wrong = fault(body, answer)
            if wrong is not None:
                response.failure(wrong)
                timeline.add(due_s, ERROR, latency_ms)
                return None
            if answer["fallback"] is not None:
                response.request_meta["name"] = f"{RERANK_ROUTE} fallback={answer['fallback']}"
            timeline.add(due_s, OK if answer["fallback"] is None else FALLBACK, latency_ms)
            if answer["context"] == "unavailable":
                timeline.add(due_s, STORELESS, latency_ms)
            return answer


def _why(response: Any) -> Any:
    return getattr(response, "error", None) or f"status {response.status_code}"


class ClosedLoop(Caller):
    """Sends its next request some pause after the answer to its last."""

    def wait_time(self) -> float:
        return self.visitors.gap_s(self.options.pause_s)

    @task
    def visit(self) -> None:
        self.exchange(self.visitors.rerank(), self.visitors.feedback)


class Due(NamedTuple):
    """A request to be sent `at_s` after its user's start."""

    at_s: float
    body: Body
    react: React


class OpenLoop(Caller):
    """A stream of requests that does not wait for answers. Streams of many users add up to one."""

    @task
    def stream(self) -> None:
        began_s = time.time()
        for due in self.requests():
            gevent.sleep(max(0.0, began_s + due.at_s - time.time()))
            self._open.spawn(self.exchange, due.body, due.react, began_s + due.at_s)
        self._open.join()
        self.environment.runner.quit()

    def requests(self) -> Iterator[Due]:
        at_s = 0.0
        while True:
            at_s += self.visitors.gap_s(1.0 / self.options.user_rate)
            yield Due(at_s, self.visitors.rerank(), self.visitors.feedback)

    def on_start(self) -> None:
        super().on_start()
        self._open = Pool()

    def on_stop(self) -> None:
        """What was sent still counts: late answers are the ones that matter."""
        self._open.join(timeout=TIMEOUT_S)


class Replay(OpenLoop):
    """Sends a recorded log."""

    def requests(self) -> Iterator[Due]:
        for one in read_replay(Path(self.options.replay)):
            yield Due(one.at_s / self.options.replay_speed, one.body, partial(recorded_feedback, one))


@events.report_to_master.add_listener
def send_timeline(data: dict[str, Any], **_: Any) -> None:
    data["timeline"] = timeline.take()


@events.worker_report.add_listener
def receive_timeline(data: dict[str, Any], **_: Any) -> None:
    timeline.merge(data["timeline"])


def show_progress(environment: Environment) -> None:
    """Now and then a line about the last seconds."""
    while True:
        gevent.sleep(PROGRESS_S)
        now_s = time.time()
        part = timeline.part(now_s - PROGRESS_S, now_s)
        p50, p99 = (part.percentile_ms(share) or float("nan") for share in (0.5, 0.99))
        print(
            f"{now_s - environment.started_s:5.0f} s  {part.reranks / PROGRESS_S:7.1f} reranks/s  "
            f"p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  errors {part.errors}  fallbacks {part.counts[FALLBACK]}",
            file=sys.stderr,
            flush=True,
        )


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code by the objectives. Workers report to their master, which judges."""
    if environment.runner is None or isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    exceptions = sum(one["count"] for one in environment.runner.exceptions.values())
    exceptions += log.unhandled_greenlet_exception
    objectives = Objectives(
        options.slo_p99_ms, options.slo_error_ratio, options.slo_fallback_ratio, options.slo_storeless_ratio
    )
    found = breaches(objectives, Measured.of(timeline.whole(), exceptions))
    started_s = getattr(environment, "started_s", time.time())
    run_time_s = options.run_time or time.time() - started_s
    parts = levels(options.shape, run_time_s, options.num_users or 1)
    by_level = [level_breaches(objectives, started_s, part) for part in parts] if len(parts) > 1 else [found]
    if len(parts) > 1:  # else the level is the run
        for part, lines in zip(parts, by_level, strict=True):
            found += [f"{line}, with {part.users} users" for line in lines]
    for line in found:
        logger.error("objective missed: %s", line)
    if options.summary_file is not None:
        write_summary(environment, objectives, found, started_s, parts, by_level)
    environment.process_exit_code = 1 if found else 0


def level_breaches(objectives: Objectives, started_s: float, level: Level) -> list[str]:
    """Of a level, if it is long enough to have anything."""
    part = timeline.part(*settled(started_s, level))
    return breaches(objectives, Measured.of(part, enough=ENOUGH)) if part.reranks else []


def write_summary(
    environment: Environment,
    objectives: Objectives,
    found: list[str],
    started_s: float,
    parts: Sequence[Level],
    by_level: Sequence[list[str]],
) -> None:
    options = environment.parsed_options
    measured = summarise(timeline, started_s, parts, options.user_rate)
    for level, lines in zip(measured["levels"], by_level, strict=True):
        level["breaches"] = lines
    sent = ("shape", "user_rate", "replay", "pause_s", "list_sizes", "top_n", "deadline_ms", "known_users")
    summary = {
        "passed": not found,
        "breaches": found,
        "objectives": vars(objectives),
        "arrivals": environment.user_classes[0].__name__,
        "users": options.num_users or 1,
        "seed": options.seed,
        **{name: getattr(options, name) for name in (*sent, "cold_share", "burst_share")},
        **measured,
    }
    Path(options.summary_file).write_text(json.dumps(summary, indent=1) + "\n")
