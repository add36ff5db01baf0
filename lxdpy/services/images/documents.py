"""OCI documents of images that are here: manifests and configs, and the index that names them for other programs."""

from collections.abc import Iterable

from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.drivers.base import ResolvedImage, Store
from lxdpy.errors import NotFoundError
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.manifest import Manifest

_CACHED_CONFIGS = 256


class Documents:
    """Reads and writes documents in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._configs: dict[Digest, ImageConfig] = {}

    def manifest(self, digest: Digest) -> Manifest:
        """An image's manifest. Raises NotFoundError when its blob is gone."""
        return Manifest.parse(self._read(digest), None)

    def config(self, digest: Digest) -> ImageConfig:
        """An image's configuration. Raises NotFoundError when its blob is gone."""
        if digest not in self._configs:
            if len(self._configs) >= _CACHED_CONFIGS:
                self._configs.clear()
            self._configs[digest] = ImageConfig.parse(self._read(digest))
        return self._configs[digest]

    def write(self, resolved: ResolvedImage) -> None:
        """Keep an image's documents."""
        if resolved.index_digest is not None and resolved.index_bytes is not None:
            self._store.write_blob(resolved.index_digest, resolved.index_bytes)
        self._store.write_blob(resolved.manifest.config.digest, resolved.config_bytes)
        self._store.write_blob(resolved.manifest_digest, resolved.manifest_bytes)

    def write_index(self, images: Iterable[tuple[str, ImageRecord]]) -> None:
        """Tell the store what images are called; LXD's have no manifest that could be named."""
        manifests = []
        for name, image in images:
            if image.kind is not ImageKind.OCI:
                continue
            data = self._read(image.manifest_digest)
            media_type = Manifest.parse(data, None).media_type
            manifests.append((name, Descriptor(media_type, image.manifest_digest, len(data))))
        self._store.write_index(manifests)

    def _read(self, digest: Digest) -> bytes:
        data = self._store.read_blob(digest)
        if data is None:
            raise NotFoundError(f"Document {digest} of an image is missing from the store")
        return data
