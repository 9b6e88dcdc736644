"""Callers around a real service that is restarted and given another model under them; and what they count."""

import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bundle.repository import point
from faults.traffic import Caller
from launch.bundles import copied
from loop.audit import settled
from loop.live import LiveService
from loop.people import People
from loop.traffic import Callers
from model.data.simulator import SimulatorConfig

PEOPLE = 200


def test_a_restart_and_a_new_version_cost_no_feedback_and_no_request(
    trained_bundle: Path, tmp_path: Path
) -> None:
    people = People(SimulatorConfig(items=200, lists=600), 2 * PEOPLE)
    models = tmp_path / "eglr"
    for version in ("1", "2"):
        copied(trained_bundle, tmp_path, "eglr", version)
    point(models, "1")
    with LiveService(models, tmp_path, share=0.5, temperature=1.0) as live:
        callers = Callers(live.port, 4)
        shown = callers.serve(people, people.of_round(1, PEOPLE), "1", repeated=0.5, halfway=live.restart)
        point(models, "2")
        with callers.passing_by(people.held_out[:5]) as apart:
            live.promote()
        after = Callers(live.port, 4)
        more = after.serve(people, people.of_round(2, PEOPLE), "2", repeated=0.0, halfway=lambda: None)
        found = settled(live.decisions, [*shown, *more])
    counts = callers.counts
    assert (counts.lists, counts.fallbacks, counts.other_versions, counts.unknown) == (PEOPLE, 0, 0, 0)
    assert (tmp_path / "service-2.log").exists(), "it was restarted"
    assert counts.failed == 0
    assert 0 < counts.sampled < PEOPLE
    assert counts.repeated > 0
    assert apart.sent == apart.answered > 0
    assert (after.counts.other_versions, after.counts.failed, after.counts.unanswered) == (0, 0, 0)
    clicks = sum(one.clicks for one in (*shown, *more))
    assert clicks == counts.accepted + after.counts.accepted == found["events"] > 0
    assert found == {
        **{"decisions": 2 * PEOPLE, "events": clicks},
        **dict.fromkeys(("unseen", "missing", "lost", "doubled", "unknown"), 0),
    }


class Moody(BaseHTTPRequestHandler):
    """Breaks the connection, then is busy, then refuses or answers, by the path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answers: list[int] = self.server.answers
        status = answers.pop(0)
        if status:
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
        else:
            self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def moody() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("answers", "got", "counted"),
    [
        ([200], True, {"sent": 1, "answered": 1}),
        ([0, 503, 200], True, {"sent": 3, "answered": 1, "failed": 1, "unanswered": 1}),
        ([429, 404], False, {"sent": 2, "failed": 2}),
    ],
)
def test_every_try_is_counted(
    moody: ThreadingHTTPServer, answers: list[int], got: bool, counted: dict[str, int]
) -> None:
    moody.answers = [*answers]
    callers = Callers(moody.server_port, 1)
    caller = Caller([moody.server_port])
    assert (callers._ask(caller, "POST", "/", {}, 200) is not None) == got
    caller.close()
    assert {name: count for name, count in asdict(callers.counts).items() if count} == counted
