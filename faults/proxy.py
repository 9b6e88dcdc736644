"""A bad network between two servers: a TCP proxy that delays what passes, and cuts connections."""

import asyncio
import random
import threading
from contextlib import suppress
from typing import Self

from launch.waiting import free_port

CHUNK = 1 << 16


class BadNetwork:
    """In front of a loopback port, with a thread of its own. Good until told otherwise.

    Attributes:
        port: of the proxy.
        delay_s: every piece waits for a random time up to this.
        cut: probability that a connection is cut after a piece has been passed on.
    """

    def __init__(self, port: int) -> None:
        self.port, self.delay_s, self.cut = free_port(), 0.0, 0.0
        self._target, self._random = port, random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._connected, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        both = [
            asyncio.create_task(self._pass(reader, far_writer)),
            asyncio.create_task(self._pass(far_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            writer.close()
            far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the end, or the cut."""
        with suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self._random.uniform(0, self.delay_s))
                writer.write(piece)
                await writer.drain()
                if self._random.random() < self.cut:
                    return
