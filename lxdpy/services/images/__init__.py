"""Images: found, pulled, imported, exported, named, refreshed, deleted."""

from lxdpy.services.images.ancestry import AncestryEntry
from lxdpy.services.images.export import ExportedFile
from lxdpy.services.images.garbage import Uses
from lxdpy.services.images.import_ import ImageDetails, ImageSettings
from lxdpy.services.images.service import FoundImage, ImageService
from lxdpy.services.images.source import ImageSource
from lxdpy.services.images.upkeep import ImageUpkeep

__all__ = [
    "AncestryEntry",
    "ExportedFile",
    "FoundImage",
    "ImageDetails",
    "ImageService",
    "ImageSettings",
    "ImageSource",
    "ImageUpkeep",
    "Uses",
]
