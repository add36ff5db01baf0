"""LXD's envelopes, for the document: `api.envelope` renders them."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from lxdpy.api.schemas.operations import Operation

Metadata = TypeVar("Metadata")


class Answer(BaseModel):
    """What all answers share."""

    status: str
    status_code: int
    operation: str
    error_code: int
    error: str


class Sync(Answer, Generic[Metadata]):
    """A synchronous success."""

    type: Literal["sync"]
    metadata: Metadata


class Empty(Answer):
    """A synchronous success with nothing to say."""

    type: Literal["sync"]
    metadata: dict[str, Any] | None


class Accepted(Answer):
    """Work that goes on in the background."""

    type: Literal["async"]
    metadata: Operation


class ErrorAnswer(Answer):
    """A refusal or a failure."""

    type: Literal["error"]
    metadata: None
