"""A Ray cluster to work on: one that is there, or one of this machine for as long as it is used."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

LOCAL = "local"
"""In the place of an address: a Ray of this machine alone."""

CONNECT_S = 10.0


class NoRayError(ConnectionError):
    """There is none at this address."""


@contextmanager
def ray_cluster(address: str) -> Iterator[None]:
    """Be connected to the cluster at `host:port`, to the one that `auto` finds, or to a `local` one.

    Raises:
        NoRayError
    """
    try:
        if ":" in address and "://" not in address:  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_S).close()
        ray.init(address=address, include_dashboard=False if address == LOCAL else None, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise NoRayError(f"no Ray at {address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()
