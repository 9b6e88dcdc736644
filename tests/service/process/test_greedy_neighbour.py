"""One caller asks for more than there is time for, beside others who ask for little."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from launch.service import ServiceProcess

HUGE, MODEST = 17, 20
DEADLINE_MS = 10_000


def test_huge_requests_hold_up_nobody(bundle: Path, tmp_path: Path) -> None:
    """They take far longer than anybody's deadline; who asks for little is answered meanwhile."""
    huge = {
        "items": [{"id": f"new-{n}", "features": {"price": float(n)}} for n in range(2000)],
        "top_n": 2000,
        "deadline_ms": DEADLINE_MS,
        "reasoning": {"entropy_threshold": 0.0, "max_tokens": 8},
    }
    modest = {"items": [{"id": f"i{n}"} for n in range(24)], "deadline_ms": DEADLINE_MS}
    service = ServiceProcess(bundle, "--max-top-n", "2000", "--drain-s", "0", log=tmp_path / "log")
    try:
        service.until_ready()
        with httpx.Client(base_url=service.url, timeout=120) as client, ThreadPoolExecutor(HUGE) as greedy:

            def ask_for_much() -> str | None:
                return httpx.post(f"{service.url}/v1/rerank", json=huge, timeout=120).json()["fallback"]

            asked: list[Future[str | None]] = [greedy.submit(ask_for_much) for _ in range(HUGE)]
            answers = [client.post("/v1/rerank", json=modest).json()["fallback"] for _ in range(MODEST)]
            left = sum(not one.done() for one in asked)
            assert answers == [None] * MODEST
            assert left > 0, "they were answered meanwhile, not afterwards"
            assert {one.result() for one in asked} <= {None, "deadline", "overload"}
    finally:
        service.process.kill()
        service.process.wait()
