"""LitServe, as documented for throughput: one worker, batches of what is queued, fast queue.

`decode_request` runs in the worker with the raw body, which a dependency hands over unparsed.
"""

import os
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response

from bench.peers.work import MAX_BATCH_SIZE, PORT, Job, Work
from engine.generation import Slate


async def raw_body(request: Request) -> bytes:
    return await request.body()


class Reranker(litserve.LitAPI):
    """A batch goes through decode, predict, unbatch and encode."""

    def setup(self, device: str) -> None:
        self.work = Work()

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> Job:
        return self.work.prepare(request)

    def batch(self, inputs: list[Job]) -> list[Job]:
        return inputs

    def predict(self, x: list[Job]) -> list[tuple[Job, Slate]]:
        return list(zip(x, self.work.infer(x), strict=True))

    def unbatch(self, output: list[tuple[Job, Slate]]) -> list[tuple[Job, Slate]]:
        return output

    def encode_response(self, output: tuple[Job, Slate]) -> Response:
        return Response(self.work.answer(*output), media_type="application/json")


if __name__ == "__main__":
    api = Reranker(
        max_batch_size=MAX_BATCH_SIZE,
        batch_timeout=float(os.environ.get("BENCH_BATCH_TIMEOUT", "0")),
        api_path="/v1/rerank",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ.get("BENCH_FAST_QUEUE", "1") == "1",
        timeout=False,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
