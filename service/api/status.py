"""The routes that tell how the service is: its models, its health, its metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import declared
from service.api.request import service_of
from service.bodies.models import Health, HealthStatus, ModelList

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


@router.get(
    "/livez",
    tags=["health"],
    summary="Is the process alive?",
    responses={503: {"model": Health, "description": "Only a restart will help."}},
)
async def livez(request: Request, response: Response) -> Health:
    """200 as long as the event loop turns, and nothing is stuck in the model for good."""
    if service_of(request).is_stuck():
        response.status_code = 503
        return Health(status="failing")
    return Health(status="ok")


@router.get(
    "/readyz",
    tags=["health"],
    summary="Should it get traffic?",
    responses={503: {"model": Health, "description": "Not loaded yet, draining, or the model fails."}},
)
async def readyz(request: Request, response: Response) -> Health:
    """200 while the default model answers: from when it is warmed up until shutdown begins."""
    service = service_of(request)
    if service.draining:
        state: HealthStatus = "draining"
    elif not service.models:
        state = "starting"
    else:
        model, now = service.models.get(), service.reranker.arrival()
        state = "ok" if await model.answers(service.settings.stuck_after_s, now) else "failing"
    response.status_code = 200 if state == "ok" else 503
    return Health(status=state)


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
