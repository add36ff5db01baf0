"""Wire types of what an instance keeps of its image."""

from typing import Annotated

from pydantic import BaseModel, Field

from lxdpy.image_metadata import ImageMetadata, from_document, to_document

_Time = Annotated[int, Field(ge=0, le=253_402_300_799)]


class MetadataTemplate(BaseModel):
    """A file of the instance that one of its templates makes."""

    when: list[str] | None = Field(None, description="create, copy, rename, start")
    create_only: bool | None = None
    template: str = Field("", description="name of a file in templates/")
    properties: dict[str, str] | None = None


class Metadata(BaseModel):
    """metadata.yaml; what a PATCH leaves out stays as it is."""

    architecture: str | None = None
    creation_date: _Time | None = None
    expiry_date: _Time | None = None
    properties: dict[str, str] | None = None
    templates: dict[str, MetadataTemplate] | None = Field(None, description="by the path of the file that they make")


def render(metadata: ImageMetadata) -> dict[str, object]:
    """As clients read it."""
    return to_document(metadata)


def replaced(body: Metadata) -> ImageMetadata:
    """The metadata that a PUT asks for. Raises InvalidRequestError."""
    return from_document(body.model_dump(exclude_none=True))


def patched(current: ImageMetadata, body: Metadata) -> ImageMetadata:
    """The metadata with `body`'s changes; properties and templates one by one. Raises InvalidRequestError."""
    document = to_document(current)
    for key, value in body.model_dump(exclude_none=True).items():
        former = document[key]
        document[key] = {**former, **value} if isinstance(former, dict) else value
    return from_document(document)
