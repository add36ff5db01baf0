"""Images: pull, list, alias, delete, ancestry."""

from lxdpy.services.images.ancestry import AncestryEntry
from lxdpy.services.images.service import FoundImage, ImageService
from lxdpy.services.images.source import ImageSource

__all__ = ["AncestryEntry", "FoundImage", "ImageService", "ImageSource"]
