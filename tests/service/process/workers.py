"""Two workers, as real processes on one port."""

import re
from collections import Counter
from pathlib import Path

import httpx

from launch.service import ServiceProcess
from launch.waiting import until_ready
from service.observe.families import SUFFIX, Families, decode


class Workers(ServiceProcess):
    """Two of them, whose log is in `folder`, and whose figures, unless they are to go elsewhere."""

    def __init__(
        self, bundle: Path, redis_url: str, folder: Path, *arguments: str, figures: Path | None = None
    ) -> None:
        self.figures, self.log = figures or folder, folder / "log"
        super().__init__(
            bundle,
            *("--workers", "2", "--redis-url", redis_url, "--redis-socket-timeout-ms", "60000"),
            *("--redis-connect-timeout-ms", "60000", *arguments),
            log=self.log,
            PROMETHEUS_MULTIPROC_DIR=str(self.figures),
        )

    def until_ready(self) -> None:
        until_ready("two workers", lambda: self.listening() == 2, self.process, log=self.log)

    def pids(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(map(int, children.read_text().split()))

    def listening(self) -> int:
        """Workers that accept connections on the port."""
        table = Path("/proc/net/tcp").read_text()
        return len(re.findall(rf"0100007F:{self.port:04X} 00000000:0000 0A ", table))

    def families(self, number: int) -> Families:
        """What a worker wrote last."""
        path = self.figures / f"worker-{number}{SUFFIX}"
        return decode(path.read_bytes()) if path.exists() else {}

    def reranks(self) -> Counter[int]:
        """Answered so far, by the worker's number, as far as it has written its figures."""
        counts: Counter[int] = Counter()
        for number in range(2):
            if family := self.families(number).get("rerank_requests_total"):
                answered = [figures[0] for labels, figures in family.series.items() if "/v1/rerank" in labels]
                counts[number] = int(sum(answered))
        return counts

    def holding(self) -> int:
        """Workers whose gauges count."""
        written = [self.families(number).values() for number in range(2)]
        return sum(any(family.kind == "gauge" for family in families) for families in written)

    def metric(self, name: str) -> float:
        """A sample of all workers together, as any of them tells it."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))
