"""Health and metadata in the words of the Open Inference Protocol."""

from typing import Literal

from service.bodies.common import Body


class ServerMetadata(Body):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Live(Body):
    """Whether the process is alive."""

    live: bool


class Ready(Body):
    """Whether the service should get traffic."""

    ready: bool


class ModelReady(Body):
    """Whether a model answers."""

    name: str
    ready: bool


class Tensor(Body):
    """An array that is sent or answered; -1 is a length that differs from request to request."""

    name: str
    datatype: Literal["BYTES", "FP32", "INT64"]
    shape: list[int]


class ModelMetadata(Body):
    """A model, or a version of it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]
