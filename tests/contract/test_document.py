"""The committed contract is the code's."""

import re
from pathlib import Path

from lxdpy.api import openapi
from lxdpy.api.extensions import EXTENSIONS

API = Path(__file__).parents[2] / "api"


def test_openapi_is_current() -> None:
    committed = (API / "openapi.json").read_text(encoding="utf-8")
    assert committed == openapi.render(), "run `make api`, and review the difference"


def test_operation_ids_are_unique() -> None:
    ids = [entry["operationId"] for methods in openapi.document()["paths"].values() for entry in methods.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere() -> None:
    text = openapi.render()
    schemas = openapi.document()["components"]["schemas"]
    assert {name for name in re.findall(r'"#/components/schemas/([^"]+)"', text)} <= set(schemas)
    assert '"$defs"' not in text


def test_extensions_are_documented_in_order() -> None:
    page = (API / "extensions.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^(?:\| |### )`(\w+)`", page, re.MULTILINE)) == EXTENSIONS
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)
