"""Fast twins of the pydantic models in `service.bodies`, which remain the only definition of every body.

A twin is a msgspec struct generated from a model: the same fields, constraints and defaults, decoded and
encoded about eight times faster. It alone judges what is sent, for pydantic looks for every fault of a body
before it answers; the models are what the OpenAPI document shows. tests/service/bodies/test_twins.py holds
the two to the same judgement.

What differs: a twin is not a pydantic object (no `model_dump`), and constructing one validates nothing.
"""

from collections.abc import Iterable
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Model = TypeVar("Model", bound=BaseModel)

CONSTRAINTS = ("gt", "ge", "lt", "le", "min_length", "max_length")


def twin(model: type[Model]) -> type[Model]:
    """The struct of a model, typed as the model, whose attributes it has.

    Raises:
        TypeError: a field's type has no msgspec counterpart.
    """
    return cast(type[Model], _struct(model))


@cache
def _struct(model: type[BaseModel]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        kind = _counterpart(field.annotation, field.metadata)
        if field.default_factory is not None:
            fields.append((name, kind, msgspec.field(default_factory=cast(Any, field.default_factory))))
        elif field.default is not PydanticUndefined:
            fields.append((name, kind, field.default))
        else:
            fields.append((name, kind))
    return msgspec.defstruct(
        model.__name__,
        fields,
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
        gc=False,
    )


def _counterpart(kind: Any, metadata: Iterable[Any] = ()) -> Any:
    """The msgspec type for a pydantic field's type and constraints."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _counterpart(arguments[0], [*_flat(arguments[1:]), *metadata])
    if origin in (Union, UnionType):
        return Union[tuple(_counterpart(one) for one in arguments)]  # noqa: UP007
    meta = _meta(metadata)
    if origin is list:
        kind = list[_counterpart(arguments[0])]  # type: ignore[misc]
    elif origin is dict:
        kind = dict[arguments[0], _counterpart(arguments[1])]  # type: ignore[misc, valid-type]
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        return _struct(kind)
    elif origin is not Literal and kind not in (str, int, float, bool, NoneType):
        raise TypeError(f"no counterpart of {kind!r}")
    return Annotated[kind, msgspec.Meta(**meta)] if meta else kind


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [one for item in metadata for one in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _meta(metadata: Iterable[Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    for constraint in metadata:
        for name in CONSTRAINTS:
            if (bound := getattr(constraint, name, None)) is not None:
                meta[name] = bound
        if (pattern := getattr(constraint, "pattern", None)) is not None:
            # `$` of Python's regular expressions also matches before a last newline, pydantic's does not.
            meta["pattern"] = pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
    return meta
