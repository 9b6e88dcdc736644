"""Requests to a service that is a process of its own, each over a connection of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import httpx

from launch.service import ServiceProcess


def readiness(service: ServiceProcess) -> tuple[int, str]:
    """Status code and status."""
    answer = httpx.get(f"{service.url}/readyz")
    return answer.status_code, answer.json()["status"]


def rerank(service: ServiceProcess) -> httpx.Response:
    items = [{"id": f"i{n}"} for n in range(24)]
    return httpx.post(f"{service.url}/v1/rerank", json={"items": items, "user_id": "somebody"}, timeout=60)


@contextmanager
def asked_all_the_time(service: ServiceProcess) -> Iterator[list[int]]:
    """The status of every rerank of two callers so far, who ask until nobody takes their connections."""
    codes: list[int] = []
    over = Event()

    def keep_asking() -> None:
        while not over.is_set():
            try:
                codes.append(rerank(service).status_code)
            except httpx.TransportError:
                return

    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(keep_asking) for _ in range(2)]
        try:
            yield codes
        finally:
            over.set()
        for caller in asking:
            caller.result()
