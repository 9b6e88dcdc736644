"""What is served: which bundles are loaded, which of them answers whom, and how each of that changes.

A plan is a value, the same in all workers of a service; every change makes a new one. Bundles are pinned:
their folders, and what is in them, are told once, so that a worker that starts later serves the same. Knows
nothing of models in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isclose
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from bundle.manifest import MANIFEST, BundleError, read_manifest, sha256
from service.errors import ConflictError, Fault, InvalidRequestError, NotFoundError

REMEMBERED = 10
"""Changes of a model that can be rolled back, the newest ones."""


class ModelKey(NamedTuple):
    """What a served model is known by."""

    name: str
    version: str


class Pin(msgspec.Struct, frozen=True):
    """A bundle, by all that is in it: `manifest` is the hash of that file, which has those of all others."""

    folder: str
    name: str
    version: str
    manifest: str

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Raises: BundleError: as `read_manifest`."""
        manifest = read_manifest(folder)
        return cls(str(folder.resolve()), manifest.name, manifest.version, sha256(folder / MANIFEST))

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.name, self.version)

    def check(self) -> None:
        """Raises: BundleError: the folder holds another bundle than when it was pinned."""
        if sha256(Path(self.folder) / MANIFEST) != self.manifest:
            raise BundleError(f"{self.folder}: no longer {self.name} {self.version} as it was loaded first")


class Arm(msgspec.Struct, frozen=True):
    """A version of a model that is loaded. With a share of 0 it answers only who asks for the version."""

    pin: Pin
    share: float


class Shadow(msgspec.Struct, frozen=True):
    """The model that answers a share of requests too, unseen, to be compared."""

    name: str
    version: str
    share: float


class Model(msgspec.Struct, frozen=True):
    """The versions that answer for one name.

    Attributes:
        current: what the repository named when it was last looked at; None if it was not.
        past: the arms before each change, the newest last.
    """

    arms: tuple[Arm, ...]
    current: Pin | None = None
    shadow: Shadow | None = None
    past: tuple[tuple[Arm, ...], ...] = ()

    def with_arms(self, arms: tuple[Arm, ...]) -> "Model":
        return msgspec.structs.replace(self, arms=arms, past=(*self.past, self.arms)[-REMEMBERED:])


class Plan(msgspec.Struct, frozen=True):
    """Models by name, and the name that answers where none is given. A change that changes nothing returns
    the plan itself.

    Attributes:
        revision: how many plans of this service came before.
    """

    models: Mapping[str, Model]
    default: str
    revision: int = 0

    @classmethod
    def of(cls, folders: Iterable[Path], default: str | None = None) -> Self:
        """One version of every model answers.

        Raises:
            BundleError: a bundle cannot be served, two have one name, or none has the default's.
        """
        models: dict[str, Model] = {}
        for pin in map(Pin.of, folders):
            if pin.name in models:
                raise BundleError(f"{pin.folder}: another model is named {pin.name}, too")
            models[pin.name] = Model((Arm(pin, 1.0),), pin)
        if not models or (default is not None and default not in models):
            raise BundleError(f"no model {default}; there are {', '.join(models)}")
        return cls(models, default or next(iter(models)))

    def first(self) -> Self:
        """As the plan that a service starts with: there is nothing to roll back."""
        models = {name: msgspec.structs.replace(one, past=()) for name, one in self.models.items()}
        return msgspec.structs.replace(self, models=models, revision=0)

    def pins(self) -> Iterator[Pin]:
        for model in self.models.values():
            yield from (arm.pin for arm in model.arms)

    def loaded(self, pin: Pin) -> Self:
        """With a version beside those there are. It answers whom the share says that it gets later; one of a
        new name answers for that.

        Raises:
            ConflictError: another bundle of this name and version is loaded.
        """
        model = self.models.get(pin.name)
        if model is None:
            return self._with(pin.name, Model((Arm(pin, 1.0),)))
        for arm in model.arms:
            if arm.pin.key == pin.key:
                if arm.pin != pin:
                    raise ConflictError(f"another bundle is loaded as {pin.name} {pin.version}")
                return self
        arms = (*model.arms, Arm(pin, 0.0))
        return self._with(pin.name, msgspec.structs.replace(model, arms=arms))

    def unloaded(self, name: str, version: str) -> Self:
        """Without a version that answers nobody.

        Raises:
            NotFoundError: it is not loaded.
            ConflictError: it has a share, or is a shadow.
        """
        arm, model = self._arm(name, version), self.models[name]
        alone = len(model.arms) == 1
        if alone and self.default == name:
            raise ConflictError(f"{name} {version} is all there is of the default model")
        if arm.share and not alone:
            raise ConflictError(f"{name} {version} has a share of {arm.share:g}; give it to others first")
        for other, one in self.models.items():
            if one.shadow is not None and (one.shadow.name, one.shadow.version) == (name, version):
                raise ConflictError(f"{name} {version} is the shadow of {other}")
        if alone:
            rest = {other: one for other, one in self.models.items() if other != name}
            return msgspec.structs.replace(self, models=rest, revision=self.revision + 1)
        arms = tuple(other for other in model.arms if other != arm)
        return self._with(name, msgspec.structs.replace(model, arms=arms))

    def shared(self, name: str, shares: Mapping[str, float]) -> Self:
        """With the requests for a name divided among versions, those not named getting none.

        Raises:
            NotFoundError: a version is not loaded.
            InvalidRequestError: the shares do not add up to 1.
        """
        for version in shares:
            self._arm(name, version)
        if not isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
            message = f"they add up to {sum(shares.values()):g}, expected 1"
            raise InvalidRequestError([Fault("shares", message)])
        model = self._model(name)
        arms = tuple(Arm(arm.pin, shares.get(arm.pin.version, 0.0)) for arm in model.arms)
        return self if arms == model.arms else self._with(name, model.with_arms(arms))

    def defaulting(self, name: str) -> Self:
        """With another name for requests that give none. Raises: NotFoundError."""
        self._model(name)
        if name == self.default:
            return self
        return msgspec.structs.replace(self, default=name, revision=self.revision + 1)

    def shadowed(self, name: str, shadow: Shadow | None) -> Self:
        """With a shadow behind a name, or none.

        Raises:
            NotFoundError: it is not loaded.
            ConflictError: it is what answers all requests for the name.
        """
        model = self._model(name)
        if shadow is not None:
            arm = self._arm(shadow.name, shadow.version)
            if [one for one in model.arms if one.share] == [arm]:
                raise ConflictError(f"{shadow.name} {shadow.version} would be compared with itself")
        return self._with(name, msgspec.structs.replace(model, shadow=shadow))

    def rolled_back(self, name: str) -> Self:
        """With the versions and shares of a name as they were before the last change of them.

        Raises:
            NotFoundError: there is no such name.
            ConflictError: nothing was changed.
        """
        model = self._model(name)
        if not model.past:
            raise ConflictError(f"{name} was not changed since the service started")
        return self._with(name, msgspec.structs.replace(model, arms=model.past[-1], past=model.past[:-1]))

    def reloaded(self, current: Iterable[Pin]) -> Self:
        """With the current version of each model whose current version is another one than when it was last
        looked for, alone; and with models that are new."""
        models = dict(self.models)
        for pin in current:
            model = models.get(pin.name)
            if model is None:
                models[pin.name] = Model((Arm(pin, 1.0),), pin)
            elif pin != model.current:
                arms = (Arm(pin, 1.0),)
                changed = model if model.arms == arms else model.with_arms(arms)
                models[pin.name] = msgspec.structs.replace(changed, current=pin)
        return self if models == self.models else self._of(models)

    def _model(self, name: str) -> Model:
        """Raises: NotFoundError."""
        if name not in self.models:
            raise NotFoundError(f"no model {name!r}; served: {', '.join(self.models)}")
        return self.models[name]

    def _arm(self, name: str, version: str) -> Arm:
        """Raises: NotFoundError."""
        arms = self._model(name).arms
        for arm in arms:
            if arm.pin.version == version:
                return arm
        loaded = ", ".join(arm.pin.version for arm in arms)
        raise NotFoundError(f"{name} {version!r} is not loaded; loaded: {loaded}")

    def _with(self, name: str, model: Model) -> Self:
        return self._of({**self.models, name: model})

    def _of(self, models: Mapping[str, Model]) -> Self:
        """With these models. Shadows that are no longer loaded end."""
        loaded = {arm.pin.key for model in models.values() for arm in model.arms}
        kept = {
            name: model
            if model.shadow is None or (model.shadow.name, model.shadow.version) in loaded
            else msgspec.structs.replace(model, shadow=None)
            for name, model in models.items()
        }
        return msgspec.structs.replace(self, models=kept, revision=self.revision + 1)


Change = Callable[[Plan], Plan]
"""May raise `ConflictError`, `NotFoundError`, `InvalidRequestError` or `BundleError`."""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Plan).decode
