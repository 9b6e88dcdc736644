"""What a call may end in."""


class ClientError(Exception):
    """Root of this client's errors."""


class UnreachableError(ClientError):
    """No answer came in time."""


class AnswerError(ClientError):
    """The service answered with an error.

    Attributes:
        status: of HTTP.
        error_type: the service's name of it, such as `validation`; None if the answer is not the service's,
            but that of a proxy in between.
        fields: what is wrong, and why, by path in the request's body.
        request_id: what the service's log knows the request by.
        retry_after_s: when it may be tried again, if the service said so.
    """

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str | None = None,
        fields: dict[str, str] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.error_type, self.fields = status, error_type, fields or {}
        self.request_id, self.retry_after_s = request_id, retry_after_s
