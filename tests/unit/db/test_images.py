import asyncio
from pathlib import Path

from lxdpy.db import images
from lxdpy.db.connection import Database
from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.oci.digest import Digest


def test_an_image_comes_back_as_it_was_put(tmp_path: Path) -> None:
    image = ImageRecord(
        fingerprint="ab" * 32,
        config_digest=None,
        index_digest=None,
        reference="",
        server="",
        architecture="x86_64",
        size=12,
        created_at=1.0,
        uploaded_at=2.0,
        last_used_at=0.0,
        properties={"os": "busybox"},
        layers=("i-" + "ab" * 32,),
        blobs=(Digest.of(b"metadata"), Digest.of(b"rootfs")),
        kind=ImageKind.LXD,
        protocol="",
        filename="a.tar.xz",
        public=True,
        auto_update=True,
        cached=True,
        expires_at=5.0,
        profiles=("default", "web"),
    )
    database = Database(tmp_path / "db")
    asyncio.run(database.run(lambda db: images.put(db, image)))
    asyncio.run(database.run(lambda db: images.put(db, image)))
    database.close()
    database = Database(tmp_path / "db")
    assert asyncio.run(database.run(images.load)) == [image]
    database.close()
