"""Operations on the wire."""

from typing import Any

from pydantic import BaseModel, Field


class Operation(BaseModel):
    """Background work."""

    id: str
    operation_class: str = Field(alias="class", description="task, websocket or token")
    description: str
    created_at: str
    updated_at: str
    status: str
    status_code: int
    resources: dict[str, list[str]] | None
    metadata: dict[str, Any] | None
    may_cancel: bool
    err: str
    location: str
