"""A row as the service takes it: a request, and what is known of its user."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.features.assembly import FeatureAssembler
from bundle.features.history import ANONYMOUS, Seen, UserContext
from export.bulk.plain import PlainItems, plain_histories, plain_items
from model.data.arrow import values
from service.api.decoding import parse
from service.api.validation import check_context, check_rerank
from service.bodies.rerank import RerankRequest
from service.bodies.twins import twin
from service.bodies.users import ContextBody, interaction
from service.context.encoding import newest
from service.context.store import StoreLimits
from service.errors import Fault, InvalidRequestError
from service.serving.request_features import check_profile, check_told
from service.settings import Settings

ONLINE = frozenset({"model", "model_version", "deadline_ms", "explain", "trace_candidates", "strict"})
"""What a request says to a service, and means nothing here."""

OF_USER = tuple(ContextBody.model_fields)

COLUMNS = (*(name for name in RerankRequest.model_fields if name not in ONLINE), *OF_USER)
"""The body of a rerank, and that of its user's context."""

HISTORY, ITEMS = "history", "items"
"""The latter may be a list of ids."""

Record = dict[str, Any]

_Request, _Context = twin(RerankRequest), twin(ContextBody)


class BulkRequest(NamedTuple):
    """A valid one. `rows` are those of its items in the catalogue, `[N] int64`, if they were looked up."""

    body: RerankRequest
    user: UserContext
    rows: NDArray[np.int64] | None


class RequestReader:
    """Rows as requests, by the limits of the service's settings."""

    def __init__(self, features: FeatureAssembler, settings: Settings) -> None:
        self._features, self._settings = features, settings
        self._limits = StoreLimits.from_settings(settings)

    def read(self, row: Record) -> BulkRequest:
        """Raises: InvalidRequestError: it would be answered with 422."""
        context = {name: row.pop(name) for name in OF_USER if name in row}
        rows = None
        if isinstance(plain := row.get(ITEMS), PlainItems):
            row[ITEMS], rows = plain
        request = _converted(RerankRequest, _Request, row)
        check_rerank(request, self._settings)
        if request.sampling is not None and request.sampling.seed is None:
            raise InvalidRequestError([Fault("sampling.seed", "needed, or no list could be made again")])
        return BulkRequest(request, self._user(context) if context else ANONYMOUS, rows)

    def _user(self, given: Record) -> UserContext:
        """As it would be stored, and read again."""
        seen = given.pop(HISTORY) if isinstance(given.get(HISTORY), Seen) else None
        if seen is not None and not given:
            return UserContext(seen=seen)
        context = _converted(ContextBody, _Context, given)
        check_context(context, self._settings)
        if context.profile:
            check_profile(self._features, context.profile)
        if seen is not None:
            return UserContext(context.profile, seen=seen)
        check_told(self._features, HISTORY, context.history)
        latest = [interaction(event) for event in context.history[-self._settings.max_history :]]
        return UserContext(context.profile, newest(latest, self._limits))

    def rows(self, batch: pa.RecordBatch) -> list[Record | InvalidRequestError]:
        """Rows as dictionaries without what is null, with what is plain as `export.bulk.plain` makes it; in
        place of a row that is no text, what is wrong with it."""
        try:
            return cast(list[Record | InvalidRequestError], self._rows(batch))
        except (UnicodeDecodeError, pa.ArrowException) as error:
            if len(batch) == 1:
                return [InvalidRequestError([Fault("row", f"a value that cannot be read: {error}")])]
        return [row for index in range(len(batch)) for row in self.rows(batch.slice(index, 1))]

    def _rows(self, batch: pa.RecordBatch) -> list[Record]:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        plain: dict[str, list[Any]] = {}
        readers: dict[str, Any] = {ITEMS: plain_items, HISTORY: plain_histories}
        for name in readers.keys() & columns.keys():
            found = readers[name](columns[name], self._features, self._settings)
            if found is not None:
                plain[name] = found
        others = batch.select([name for name in columns if name not in plain])
        rows: list[Record] = values(others.to_struct_array(), nan=None)
        for name, column in plain.items():
            for row, value in zip(rows, column, strict=True):
                if value is not None:
                    row[name] = value
        for row in rows:
            if (items := row.get(ITEMS)) and type(items[0]) is str:
                row[ITEMS] = [{"id": item} for item in items]
        return rows


def _converted(model: Any, kind: Any, body: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        first = str(error)
    parse(model, msgspec.json.encode(body))  # says what is wrong as the service does
    raise InvalidRequestError([Fault("row", first)])
