"""A server of known delays, in a process of its own: echoes bodies, one request at a time.

python slow_server.py DELAY_S [STALLED_REQUEST STALL_S [STATUS]]     prints its port
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from time import sleep


@contextmanager
def serving(delay_s: float, stalled: int = -1, stall_s: float = 0.0, status: int = 200) -> Iterator[int]:
    """Run the server; its port."""
    arguments = map(str, (delay_s, stalled, stall_s, status))
    with subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def main(delay_s: float, stalled: float, stall_s: float, status: float) -> None:
    one_at_a_time, numbers = threading.Lock(), count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with one_at_a_time:
                sleep(stall_s if next(numbers) == stalled else delay_s)
            self.send_response(int(status))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # connections arrive all at once

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
