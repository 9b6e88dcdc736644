"""What peers are given to do is a rerank, whole and right."""

import json
from pathlib import Path

from bench.payloads import workload
from bench.peers.__main__ import PEERS, ratios
from bench.peers.work import Work
from bench.servers import is_answer
from loadtest.answers import fault


def test_work_answers_as_the_service_does(bundle: Path) -> None:
    work, bodies = Work(bundle), workload(bundle).bodies[:40]
    jobs = [work.prepare(body) for body in bodies]
    answers = [work.answer(job, slate) for job, slate in zip(jobs, work.infer(jobs), strict=True)]
    for body, answer in zip(bodies, answers, strict=True):
        assert fault(json.loads(body), json.loads(answer)) is None
        assert is_answer(200, answer)
    assert {json.loads(answer)["context"] for answer in answers} == {"hit", "miss"}


def test_ratios_compare_within_a_round() -> None:
    rows = [
        {"server": server, "connections": 8, "round": number, "per_second": speed}
        for number, busy in enumerate((1.0, 0.1, 0.5))  # of a machine that is slower in some rounds
        for server, speed in {"ours": 900.0 * busy, **{peer.name: 300.0 * busy for peer in PEERS}}.items()
    ]
    assert ratios(rows) == {peer.name: {"8": 3.0} for peer in PEERS}


def test_every_peer_is_pinned() -> None:
    for peer in PEERS:
        pins = peer.requirements.read_text().split()
        assert pins
        assert all("==" in pin for pin in pins)
