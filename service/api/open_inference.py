"""Health and metadata of the Open Inference Protocol (KServe v2), for what finds and watches models by it.

https://github.com/kserve/open-inference-protocol. Tensors fit no list of items, so there is no `infer`: lists
are re-ranked by `/v2/rerank`, whose arrays the metadata tell.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import declared
from service.api.request import service_of
from service.api.status import livez, readyz
from service.bodies.open_inference import Live, ModelMetadata, ModelReady, Ready, ServerMetadata, Tensor
from service.errors import InvalidRequestError, NotFoundError

router = APIRouter(prefix="/v2", tags=["open inference"])

METADATA_ERRORS = (*ACCESS_ERRORS, NotFoundError, InvalidRequestError)
INPUTS = [Tensor(name="documents", datatype="BYTES", shape=[-1])]
OUTPUTS = [
    Tensor(name="index", datatype="INT64", shape=[-1]),
    Tensor(name="relevance_score", datatype="FP32", shape=[-1]),
]

Name = Annotated[str, Path(description="Of a model.", examples=["eglr"])]
Version = Annotated[str, Path(examples=["3"])]


@router.get(
    "",
    summary="Server metadata",
    dependencies=[needs("rerank")],
    responses=declared(*ACCESS_ERRORS),
)
async def server(request: Request) -> ServerMetadata:
    """Name and version of this server."""
    app = request.app
    return ServerMetadata(name=app.title, version=app.version, extensions=[])


@router.head("/health/live", include_in_schema=False)
@router.get(
    "/health/live",
    summary="Is the process alive?",
    responses={503: {"model": Live, "description": "Only a restart will help."}},
)
async def live(request: Request, response: Response) -> Live:
    """As `/livez`."""
    return Live(live=(await livez(request, response)).status == "ok")


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    summary="Should it get traffic?",
    responses={503: {"model": Ready, "description": "Not loaded yet, draining, or the model fails."}},
)
async def ready(request: Request, response: Response) -> Ready:
    """As `/readyz`."""
    return Ready(ready=(await readyz(request, response)).status == "ok")


@router.get(
    "/models/{name}",
    summary="A model's metadata",
    dependencies=[needs("rerank")],
    responses=declared(*METADATA_ERRORS),
)
async def model(request: Request, name: Name) -> ModelMetadata:
    """Its loaded versions, and the arrays of `/v2/rerank`."""
    return _metadata(request, name, None)


@router.get(
    "/models/{name}/versions/{version}",
    summary="A version's metadata",
    dependencies=[needs("rerank")],
    responses=declared(*METADATA_ERRORS),
)
async def version(request: Request, name: Name, version: Version) -> ModelMetadata:
    """As for its model, of which `versions` then names this one."""
    return _metadata(request, name, version)


@router.get(
    "/models/{name}/ready",
    summary="Does a model answer?",
    dependencies=[needs("rerank")],
    responses={
        **declared(*METADATA_ERRORS),
        503: {"model": ModelReady, "description": "The model fails."},
    },
)
async def model_ready(request: Request, response: Response, name: Name) -> ModelReady:
    """200 while the version with the largest share generates lists."""
    return await _ready(request, response, name, None)


@router.get(
    "/models/{name}/versions/{version}/ready",
    summary="Does a version answer?",
    dependencies=[needs("rerank")],
    responses={
        **declared(*METADATA_ERRORS),
        503: {"model": ModelReady, "description": "The model fails."},
    },
)
async def version_ready(request: Request, response: Response, name: Name, version: Version) -> ModelReady:
    """200 while this version generates lists."""
    return await _ready(request, response, name, version)


def _metadata(request: Request, name: str, version: str | None) -> ModelMetadata:
    models = service_of(request).models
    models.get(name, version)  # raises for what is not served
    versions = [one.key.version for one in models.all() if one.key.name == name]
    return ModelMetadata(
        name=name,
        versions=versions if version is None else [version],
        platform="eglr",
        inputs=INPUTS,
        outputs=OUTPUTS,
    )


async def _ready(request: Request, response: Response, name: str, version: str | None) -> ModelReady:
    service = service_of(request)
    served, now = service.models.get(name, version), service.reranker.arrival()
    answers = not service.draining and await served.answers(service.settings.stuck_after_s, now)
    response.status_code = 200 if answers else 503
    return ModelReady(name=name, ready=answers)
