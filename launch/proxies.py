"""Load balancers before several replicas, as docs/deployment.md says they are set up."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launch.waiting import answers_ok, free_port, until_ready

HAPROXY = Path(__file__).parents[1] / "deploy/haproxy/haproxy.cfg"
"""What production has; here only the replicas are others."""

NGINX = """\
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream rerank {{
{replicas}
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://rerank;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


@contextmanager
def haproxy(folder: Path, ports: Sequence[int], *lines: str, status: int | None = None) -> Iterator[int]:
    """The port where HAProxy passes on to these, which it checks.

    Args:
        lines: of the backend, which go before what it inherits.
        status: the port of its own metrics, instead of a free one.
    """
    servers = (f"server r{port} 127.0.0.1:{port}" for port in ports)
    replicas = folder / "replicas.cfg"
    replicas.write_text("\n  ".join(["backend replicas from replicas", *lines, *servers]) + "\n")
    port = free_port()
    places = {
        "HAPROXY_BIND": f"127.0.0.1:{port}",
        "HAPROXY_STATUS": f"127.0.0.1:{status or free_port()}",
    }
    command = ["haproxy", "-db", "-f", str(HAPROXY), "-f", str(replicas)]
    with _running(command, port, folder / "haproxy.log", **places):
        yield port


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """The same of nginx, which learns from its requests who is gone, and takes nobody for dead for long."""
    replicas = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in ports)
    configuration, port = folder / "nginx.conf", free_port()
    configuration.write_text(NGINX.format(folder=folder, port=port, replicas=replicas))
    command = ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(configuration)]
    with _running(command, port, folder / "nginx.log"):
        yield port


PROXIES = {"haproxy": haproxy, "nginx": nginx}


@contextmanager
def _running(command: list[str], port: int, log: Path, **environment: str) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        until_ready(command[0], lambda: answers_ok(f"http://127.0.0.1:{port}/readyz"), process, log=log)
        yield
    finally:
        process.terminate()
        process.wait()
