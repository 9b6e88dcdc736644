"""What peers are given to do is a rerank, whole and right."""

import json
from pathlib import Path

from bench.payloads import workload
from bench.peers.__main__ import PEERS
from bench.peers.rates import best_rates
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


def test_every_server_is_compared_in_its_best_round() -> None:
    speeds = {"ours": (900.0, 90.0), "bentoml": (30.0, 300.0)}
    rows = [
        {"decoding": "native", "server": server, "connections": 8, "round": number, "per_second": speed}
        for server, rounds in speeds.items()
        for number, speed in enumerate(rounds)
    ]
    rows.append({"decoding": "graph", "server": "ours", "connections": 8, "round": 0, "per_second": 950.0})
    assert best_rates(rows, "native") == {"ours": {8: 900.0}, "bentoml": {8: 300.0}}
    assert best_rates(rows, "graph") == {"ours": {8: 950.0}}


def test_every_peer_is_pinned() -> None:
    for peer in PEERS:
        pins = peer.requirements.read_text().split()
        assert pins
        assert all("==" in pin for pin in pins)
