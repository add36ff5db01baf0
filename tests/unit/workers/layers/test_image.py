"""What an image holds beside its root file system, as somebody made it who wishes us ill."""

import io
import tarfile

import pytest

from lxdpy.errors import LayerError
from lxdpy.workers.layers.image import About
from lxdpy.workers.layers.tar import TarReader


@pytest.mark.parametrize("name", ["a\0b", "..", "x" * 256])
def test_a_template_whose_name_no_file_can_have_is_refused(name: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("template")
        info.pax_headers = {"path": f"templates/{name}"}
        tar.addfile(info)
    with pytest.raises(LayerError, match="is no file's name"):
        About().read(TarReader([archive.getvalue()]))
