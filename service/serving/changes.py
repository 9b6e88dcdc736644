"""Changes of what is served, by a process alone: one at a time, whole or not at all, bounded in time."""

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from bundle.manifest import BundleError
from bundle.repository import Repository
from service.errors import (
    ChangeTimeoutError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
)
from service.serving.plan import Change, Pin, Plan, Shadow
from service.settings import Settings

if TYPE_CHECKING:  # it brings ONNX Runtime, which a supervisor does without
    from service.serving.registry import Models

FAULTS = (BundleError, ServiceError)
"""What a change may end in."""

MISTAKES = (ConflictError, InvalidRequestError, NotFoundError)
"""Faults that are the caller's, not the bundle's nor the service's."""

logger = logging.getLogger(__name__)


class Changes:
    """Takes the models from plan to plan."""

    def __init__(self, models: "Models", repository: Repository, timeout_s: float) -> None:
        self.models, self.repository, self.timeout_s = models, repository, timeout_s
        self._under_way = False

    async def make(self, change: Change) -> None:
        """Make a change; when this returns, every request gets the models of the new plan.

        Raises:
            ConflictError: another one is under way, or as the change itself.
            BundleError: a bundle cannot be served.
            ChangeTimeoutError: it took too long.
            ServiceError: by the change itself.
        """
        try:
            if self.models.plan is None or self._under_way:
                raise ConflictError("another change is under way")
            self._under_way = True
            try:
                plan = await asyncio.to_thread(change, self.models.plan)  # it may read bundles
                if plan is not self.models.plan:
                    await self._agree(plan)
            finally:
                self._under_way = False
        except FAULTS as fault:
            told(fault)
            raise

    async def load(self, name: str, version: str) -> None:
        """Load a version of the repository. Raises: as `make`."""

        def change(plan: Plan) -> Plan:
            return plan.loaded(_pin(self.repository, name, version))

        await self.make(change)

    async def reload(self) -> None:
        """Serve the current versions of the repository. Raises: as `make`."""
        await self.make(reloading(self.repository))

    async def _agree(self, plan: Plan) -> None:
        """Switch to a plan. Raises: as `make`, without the change's own."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.models.prepare(plan)
        except TimeoutError:
            raise too_slow(self.timeout_s) from None
        self.models.commit()
        told(plan)


def starting(repository: Repository, settings: Settings) -> Plan:
    """The plan that a service starts with: the current versions, and the settings' shares and shadows.

    Raises:
        BundleError: a bundle cannot be served, or shares do not add up.
        ServiceError: a shadow is of no model.
    """
    plan = Plan.of(repository.current(), settings.default_model)
    shares: dict[str, dict[str, float]] = {}
    for text in settings.shares:
        name, version, share = re.split("[/=]", text)
        plan = plan.loaded(_pin(repository, name, version))
        if version in shares.setdefault(name, {}):
            raise BundleError(f"shares of {name}: {version} occurs twice")
        shares[name][version] = float(share)
    for name, given in shares.items():
        try:
            plan = plan.shared(name, given)
        except InvalidRequestError as error:
            raise BundleError(f"shares of {name}: {error.faults[0].message}") from None
    for text in settings.shadows:
        name, other, version, share = re.split("[:/=]", text)
        plan = plan.loaded(_pin(repository, other, version))
        plan = plan.shadowed(name, Shadow(other, version, float(share)))
    return plan.first()


def _pin(repository: Repository, name: str, version: str) -> Pin:
    """Raises: BundleError: there is no such version, or it is another's."""
    pin = Pin.of(repository.find(name, version))
    if pin.key != (name, version):
        raise BundleError(f"{pin.folder}: holds {pin.name} {pin.version}, not {name} {version}")
    return pin


def reloading(repository: Repository) -> Change:
    """The change to the current versions of a repository."""
    return lambda plan: plan.reloaded(map(Pin.of, repository.current()))


def too_slow(timeout_s: float) -> ChangeTimeoutError:
    return ChangeTimeoutError(f"the change was not done within {timeout_s:g} s, and was undone")


def told(outcome: Plan | Exception) -> None:
    """One log line for every change."""
    if isinstance(outcome, Plan):
        arms = [(arm.pin, arm.share) for model in outcome.models.values() for arm in model.arms]
        served = ", ".join(f"{pin.name} {pin.version} ({share:g})" for pin, share in arms)
        logger.info("serving, by share: %s; default %s", served, outcome.default)
    else:
        level = logging.WARNING if isinstance(outcome, MISTAKES) else logging.ERROR
        logger.log(level, "the models stay as they are: %s", outcome)
