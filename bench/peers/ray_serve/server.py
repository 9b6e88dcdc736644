"""Ray Serve, throughput-optimised and behind its HAProxy: one replica, batches that never wait."""

import os
import signal
from threading import Event

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.work import BUNDLE, MAX_BATCH_SIZE, PORT, Job, Work
from engine.generation import Slate


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=128,
    ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": {BUNDLE: os.environ.get(BUNDLE, "")}}},
    logging_config={"enable_access_log": False, "log_level": "ERROR"},
)
class Reranker:
    """The replica."""

    def __init__(self) -> None:
        self.work = Work()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.0)
    async def infer(self, jobs: list[Job]) -> list[Slate]:
        return self.work.infer(jobs)

    async def __call__(self, request: Request) -> Response:
        job = self.work.prepare(await request.body())
        return Response(self.work.answer(job, await self.infer(job)), media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ[PORT])},
        logging_config={"enable_access_log": False, "log_level": "ERROR"},
    )
    serve.run(Reranker.bind(), route_prefix="/v1/rerank")
    ended = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()
