"""The routes that tell how the service is: its models, its health, its metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import declared
from service.api.request import service_of
from service.bodies.models import Health, ModelList

router = APIRouter()

inside = APIRouter()
"""What is for those who run the service, on `admin_port` if it is set."""


@router.get(
    "/v1/models",
    tags=["models"],
    summary="Served models",
    dependencies=[needs("rerank")],
    responses=declared(*ACCESS_ERRORS),
)
async def models(request: Request) -> ModelList:
    """Every served model, with its gate and the defaults a request may override."""
    return ModelList(models=[served.info for served in service_of(request).models.all()])


@router.get("/livez", tags=["health"], summary="Is the process alive?")
async def livez() -> Health:
    """200 as long as the event loop turns."""
    return Health(status="ok")


@router.get(
    "/readyz",
    tags=["health"],
    summary="Should it get traffic?",
    responses={503: {"model": Health, "description": "Not loaded and warmed up yet, or draining."}},
)
async def readyz(request: Request, response: Response) -> Health:
    """200 once a model is loaded and warmed up, until shutdown begins."""
    service = service_of(request)
    if service.models and not service.draining:
        return Health(status="ok")
    response.status_code = 503
    return Health(status="draining" if service.draining else "starting")


@inside.get(
    "/metrics",
    tags=["health"],
    summary="Prometheus metrics",
    dependencies=[needs("metrics")],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **declared(*ACCESS_ERRORS),
    },
)
async def metrics(request: Request) -> Response:
    """The exposition format."""
    return Response(await service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
