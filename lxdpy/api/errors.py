"""Which HTTP status each of our errors is. The only table of its kind."""

import logging
from collections.abc import Mapping

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lxdpy import errors
from lxdpy.api import envelope

logger = logging.getLogger(__name__)

HTTP_STATUS: Mapping[type[errors.LxdpyError], int] = {
    errors.InvalidRequestError: 400,
    errors.UnsupportedError: 501,
    errors.AccessDeniedError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.BusyError: 409,
    errors.PreconditionFailedError: 412,
    errors.ShuttingDownError: 503,
    errors.NoSpaceError: 507,
    errors.RegistryError: 502,
    errors.DigestMismatchError: 502,
    errors.LayerError: 400,
    errors.WorkerError: 500,
}


def http_status(error: errors.LxdpyError) -> int:
    """The HTTP status of `error`, by its nearest class in the table."""
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), 500)


def answer(error: Exception) -> Response:
    """The answer to a request that raised `error`; a surprise goes to the log, and only there."""
    if isinstance(error, errors.LxdpyError):
        return envelope.error(http_status(error), str(error))
    if isinstance(error, ClientDisconnect):
        logger.info("A client left before it had sent its request's body")
        return envelope.error(400, "Cannot read the request's body: the client is gone")
    logger.error("Request failed", exc_info=error)
    return envelope.error(500, "Internal error")


async def no_route(request: Request, error: Exception) -> Response:
    """Unknown path: 404. Known path with another method: 501, as LXD says."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return envelope.error(404, "not found")
    if status == 405:
        return envelope.error(501, "not implemented")
    return envelope.error(status, f"Request failed with status {status}")
