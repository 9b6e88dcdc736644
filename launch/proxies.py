"""Load balancers before several replicas, as docs/deployment.md says they are set up."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launch.waiting import answers_ok, free_port, until_ready

HAPROXY = """\
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 10s
frontend all
  bind 127.0.0.1:{port}
  default_backend rerank
backend rerank
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host rerank
  default-server check inter 200ms fall 1 rise 1
{replicas}
"""

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
def haproxy(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """The port where HAProxy passes on to these, which it checks."""
    replicas = "\n".join(f"  server r{port} 127.0.0.1:{port}" for port in ports)
    configuration, port = folder / "haproxy.cfg", free_port()
    configuration.write_text(HAPROXY.format(port=port, replicas=replicas))
    with _running(["haproxy", "-db", "-f", str(configuration)], port):
        yield port


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """The same of nginx, which learns from its requests who is gone, and takes nobody for dead for long."""
    replicas = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in ports)
    configuration, port = folder / "nginx.conf", free_port()
    configuration.write_text(NGINX.format(folder=folder, port=port, replicas=replicas))
    command = ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(configuration)]
    with _running(command, port):
        yield port


PROXIES = {"haproxy": haproxy, "nginx": nginx}


def installed(name: str) -> bool:
    return shutil.which(name) is not None


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until_ready(command[0], lambda: answers_ok(f"http://127.0.0.1:{port}/readyz"), process)
        yield
    finally:
        process.terminate()
        process.wait()
