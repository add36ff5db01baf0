"""Layers that a power cut took, made again from the blobs that are here."""

import logging

from lxdpy.db.images import ImageRecord
from lxdpy.db.instances import InstanceRecord
from lxdpy.drivers.base import ImageFiles, LayerRequest, Store, image_layer_id
from lxdpy.errors import NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.images.documents import Documents

logger = logging.getLogger(__name__)


async def rebuild(made_of: ImageRecord | InstanceRecord, store: Store, documents: Documents) -> None:
    """Have all layers of an image or instance. Raises NotFoundError, LayerError."""
    missing = [layer_id for layer_id in made_of.layers if store.layer(layer_id) is None]
    if not missing:
        return
    if missing == [image_layer_id(made_of.fingerprint)]:
        logger.warning("Rebuilding the layer of image %s from its files", made_of.fingerprint[:12])
        files = [store.image_file(digest) for digest in made_of.blobs if digest != made_of.config_digest]
        layer = await store.unpack_image(
            ImageFiles(made_of.fingerprint, files[0], files[1] if len(files) > 1 else None)
        )
        store.release((layer.id,))
        return
    if made_of.config_digest is None:
        raise NotFoundError(f"Layer {missing[0]} of image {made_of.fingerprint[:12]} is missing from the store")
    manifest, config = documents.manifest(made_of.manifest_digest), documents.config(made_of.config_digest)
    requests = [
        LayerRequest(descriptor, diff_id, None)
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    ]
    logger.warning("Rebuilding layers of image %s from their blobs", made_of.fingerprint[:12])
    layers = await store.materialize(requests, NoProgress())
    store.release([layer.id for layer in layers])
