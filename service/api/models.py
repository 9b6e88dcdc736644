"""The routes that change what is served, for those who run the service. A change is whole or not at all."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from bundle.manifest import BundleError
from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import BODY_ERRORS, declared
from service.api.decoding import parse
from service.api.openapi import request_body
from service.api.request import read_body, service_of
from service.bodies.models import ModelList, ShadowBody, SharesBody
from service.errors import ChangeTimeoutError, ConflictError, NotFoundError
from service.serving.plan import Change, Shadow

CHANGE_ERRORS = (*ACCESS_ERRORS, NotFoundError, ConflictError, BundleError, ChangeTimeoutError)

router = APIRouter(prefix="/v1/models", tags=["admin"], dependencies=[needs("admin")])

listing = APIRouter()
"""What the first port tells those who re-rank, for a port of its own."""

Name = Annotated[str, Path(description="Of a model.", examples=["eglr"])]
Version = Annotated[str, Path(examples=["3"])]


@router.post("/{name}/versions/{version}:load", summary="Load a version", responses=declared(*CHANGE_ERRORS))
async def load(request: Request, name: Name, version: Version) -> ModelList:
    """Open a version of the repository, check it and warm it up. Of a model that is served already it answers
    only requests that name the version, until it gets a share."""
    await service_of(request).changes.load(name, version)
    return _served(request)


@router.post(
    "/{name}/versions/{version}:unload", summary="Unload a version", responses=declared(*CHANGE_ERRORS)
)
async def unload(request: Request, name: Name, version: Version) -> ModelList:
    """Free a version that has no share and is no shadow, once its open requests have ended."""
    return await _changed(request, lambda plan: plan.unloaded(name, version))


@router.put(
    "/{name}/shares",
    summary="Divide requests among versions",
    responses=declared(*CHANGE_ERRORS, *BODY_ERRORS),
    openapi_extra=request_body(SharesBody),
)
async def set_shares(request: Request, name: Name) -> ModelList:
    """Divide the requests for a name among loaded versions. A user stays with a version, as far as the shares
    allow; so does the id of a request that names no user."""
    body = parse(SharesBody, await read_body(request))
    return await _changed(request, lambda plan: plan.shared(name, body.shares))


@router.put(
    "/{name}/shadow",
    summary="Compare with another model",
    responses=declared(*CHANGE_ERRORS, *BODY_ERRORS),
    openapi_extra=request_body(ShadowBody),
)
async def set_shadow(request: Request, name: Name) -> ModelList:
    """Show a share of the requests for a name to another loaded model too, whose answers nobody gets."""
    body = parse(ShadowBody, await read_body(request))
    shadow = Shadow(body.model or name, body.version, body.share)
    return await _changed(request, lambda plan: plan.shadowed(name, shadow))


@router.delete("/{name}/shadow", summary="Compare no longer", responses=declared(*CHANGE_ERRORS))
async def delete_shadow(request: Request, name: Name) -> ModelList:
    """End the comparison."""
    return await _changed(request, lambda plan: plan.shadowed(name, None))


@router.post("/{name}:default", summary="Set the default model", responses=declared(*CHANGE_ERRORS))
async def set_default(request: Request, name: Name) -> ModelList:
    """Let a name answer requests that name no model."""
    return await _changed(request, lambda plan: plan.defaulting(name))


@router.post("/{name}:rollback", summary="Undo the last change of shares", responses=declared(*CHANGE_ERRORS))
async def roll_back(request: Request, name: Name) -> ModelList:
    """Serve the versions of a name by the shares that they had before the last change. May be repeated."""
    return await _changed(request, lambda plan: plan.rolled_back(name))


@router.post(":reload", summary="Serve the current versions", responses=declared(*CHANGE_ERRORS))
async def reload(request: Request) -> ModelList:
    """Look at the repository again, as on SIGHUP: a model whose current version is another one than at the
    last look is served by that alone."""
    await service_of(request).changes.reload()
    return _served(request)


@listing.get(
    "/v1/models", summary="Served models", dependencies=[needs("admin")], responses=declared(*ACCESS_ERRORS)
)
async def served(request: Request) -> ModelList:
    """Every served model, with its share and its shadow."""
    return _served(request)


async def _changed(request: Request, change: Change) -> ModelList:
    await service_of(request).changes.make(change)
    return _served(request)


def _served(request: Request) -> ModelList:
    return ModelList(models=[served.info for served in service_of(request).models.all()])
