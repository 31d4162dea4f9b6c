"""Failures in the form of OpenAI's API: a status, and {"error": {"message", "type", "param", "code"}}."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from model.errors import ArtifactError, Nano2Error, NotFiniteError, UsageError
from stages.serve.engine import ClosedError, QueueFullError

INVALID = "invalid_request_error"
SERVER = "server_error"
RATE = "rate_limit_error"
INTERNAL = "internal_error"


class ApiError(HTTPException):
    """A refusal or a failure that the client is told. param: the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.body = error_body(message, kind=kind, param=param, code=code)

    @property
    def internal(self) -> bool:
        """A mistake of this program, which belongs into its log."""
        return bool(self.body["error"]["code"] == INTERNAL)

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status_code, self.headers)


def error_body(
    message: str, *, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def api_error(error: BaseException) -> ApiError:
    """What an exception while a request is answered means to its client."""
    match error:
        case ApiError():
            return error
        case QueueFullError():
            return ApiError(429, _sentence(error), kind=RATE, code="queue_full", headers={"Retry-After": "1"})
        case ClosedError():
            return ApiError(503, _sentence(error), kind=SERVER, code="shutting_down")
        case NotFiniteError():
            return ApiError(500, _sentence(error), kind=SERVER, code="not_finite")
        case UsageError() | ArtifactError():  # of a request: what the template or the engine refuses
            return ApiError(400, _sentence(error))
        case TimeoutError():
            return ApiError(504, "the answer took too long", kind=SERVER, code="timeout")
    return ApiError(500, f"internal error, {type(error).__name__}", kind=SERVER, code=INTERNAL)


def install(app: FastAPI) -> None:
    """Answer every failure of the app in this form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return validation_error(error.errors()).response()

    @app.exception_handler(StarletteHTTPException)
    async def refused(_request: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return error.response()
        code = "not_found" if error.status_code == 404 else None
        return ApiError(error.status_code, str(error.detail), code=code, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def failed(_request: Request, error: Exception) -> JSONResponse:
        return api_error(error).response()


_FIELD = re.compile(r"[a-z_]+")
"""Not so: what pydantic writes for a member of a union."""

_NAMED = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): (.*)", re.DOTALL)
"""A complaint that names its field."""


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's complaints as one sentence, with the field's name."""
    first = errors[0]
    place = [part for part in first["loc"] if isinstance(part, int) or _FIELD.fullmatch(part)][1:]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is no valid JSON ({first['ctx']['error']})", code="invalid_json")
    param = (
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or None
    )
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown field {param}", param=param, code="unknown_parameter")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and (named := _NAMED.fullmatch(message)):
        param, message = named.groups()
    if not place and first["type"] in ("model_attributes_type", "dict_type", "missing"):
        message = "the body must be a JSON object, sent as application/json"
    return ApiError(400, f"{param}: {message}" if param else message, param=param)


def _sentence(error: Nano2Error) -> str:
    return f"{error}; {error.remedy}" if error.remedy else str(error)
