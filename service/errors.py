"""What can go wrong with a request, in the service's own words. `api.answers` says how each is answered.

Knows nothing of HTTP, and nothing of what goes wrong where. Faults of the model and of the store stand here
too, so that whoever handles them finds all on one page.
"""

from collections.abc import Iterable
from itertools import islice
from math import ceil
from typing import Literal, NamedTuple

from bundle.errors import RerankerError

Stage = Literal["parse", "rules", "context", "features", "queue", "infer", "post"]
"""A rerank's stages, in order."""


class ServiceError(RerankerError):
    """Root of all errors the service answers with. The message is for the caller."""


class Fault(NamedTuple):
    """What is wrong with one field: its path in the body, such as `items.3.id`, and why."""

    field: str
    message: str


MOST_FAULTS = 100
"""No more are looked for; `max_faults` of them are told."""

MOST_CHARACTERS = 200
"""Of a field and of a message: both may quote what was sent."""


class InvalidRequestError(ServiceError):
    """The request cannot be understood.

    Attributes:
        faults: the first fields that are wrong, at most `MOST_FAULTS`.
        decided: False where it was not found out, within `max_constraint_states`, whether rules can hold.
    """

    def __init__(self, faults: Iterable[Fault], decided: bool = True) -> None:
        """Takes no more of `faults` than are kept."""
        self.decided = decided
        self.faults = [Fault(*map(_shortened, fault)) for fault in islice(faults, MOST_FAULTS)]
        told = "; ".join(f"{field}: {message}" for field, message in self.faults[:3])
        super().__init__(f"the request is not valid: {told}")


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


class UnauthenticatedError(ServiceError):
    """No API key, or none that is known."""


class ForbiddenError(ServiceError):
    """The API key is not for this."""


class RateLimitedError(ServiceError):
    """The caller asks for more than its key may.

    Attributes:
        retry_after_s: when it may ask again.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("this key's limit is reached")
        self.retry_after_s = retry_after_s


class BodyTooLargeError(ServiceError):
    """The body is longer than `max_body_bytes`."""


class MalformedRequestError(ServiceError):
    """It is no HTTP/1.1 that this service reads, or does not name one host."""


class HeadersTooLargeError(ServiceError):
    """The headers are more than `max_headers`, or longer than `max_header_bytes`."""


class RequestTimeoutError(ServiceError):
    """The headers took longer than `header_timeout_s` to arrive, or the body than `body_timeout_s`."""


class UnsupportedMediaError(ServiceError):
    """The body is not JSON, or is packed in a way that is not understood."""


class BusyError(ServiceError):
    """More than `max_connections` are open, or more than `max_held_bytes` of bodies being sent are held."""


class NotFoundError(ServiceError):
    """The model or user is unknown."""


class ConflictError(ServiceError):
    """The models are in a state that this change does not suit, or another change is under way."""


class ChangeTimeoutError(ServiceError):
    """A change of the models took longer than `load_timeout_s`, and was given up."""


class UnavailableError(ServiceError):
    """No model is ready yet, or the service is about to end."""


class GenerationError(ServiceError):
    """No slate was generated. Answered with the caller's order unless the request is strict."""


class OverloadedError(GenerationError):
    """Those before this request leave it no time.

    Attributes:
        retry_after_s: whole seconds after which they are predicted to be done; at least 1.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        self.retry_after_s = max(1, ceil(wait_s))
        super().__init__(f"{message}; try again in {self.retry_after_s} s")


class DeadlineExceededError(GenerationError):
    """The request's deadline passed, in `stage`."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(f"the deadline passed in stage {stage}")
        self.stage: Stage = stage


class ModelError(GenerationError):
    """The model, or our own code around it, failed on this request."""


class ContextStoreError(ServiceError):
    """Root of a context store's errors."""


class StoreUnavailableError(ContextStoreError):
    """The store did not answer. For a write: it may or may not have happened."""


class StoreNotAskedError(StoreUnavailableError):
    """This process had no time, or no connection, to ask the store: it may be as well as ever."""


class DecisionLogError(ServiceError):
    """The decision log could not be told that a user is forgotten. The context store knows already."""


class UnknownRecommendationError(ContextStoreError):
    """No such recommendation: never made, expired, or its person was forgotten since."""

    def __init__(self) -> None:
        super().__init__("no such recommendation, or it has expired")
