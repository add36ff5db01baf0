"""The API's document: `python -m lxdpy.api.openapi` prints what api/openapi.json must be."""

import json
import re
import sys
from typing import Any

from fastapi.openapi.utils import get_openapi

from lxdpy.api.app import routes

_PARAMETER = re.compile(r"\{(\w+)\}")


def document() -> dict[str, Any]:
    """The OpenAPI document, made of the routes."""
    result = get_openapi(
        title="lxdpy",
        version="1.0",
        description="LXD's REST API over a unix socket. See rest-api.md and extensions.md.",
        routes=routes(),
    )
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    for path, methods in result["paths"].items():
        for operation in methods.values():
            known = operation.setdefault("parameters", [])
            known[:0] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in _PARAMETER.findall(path)
            ]
            # Nothing of ours is parsed by FastAPI, so nothing can fail in its way.
            operation["responses"].pop("422", None)
            _hoist(operation, schemas)
    return result


def render() -> str:
    """The document as text, the same for the same code."""
    return json.dumps(document(), indent=2, sort_keys=True) + "\n"


def _hoist(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move a body's schema to the components, where responses' are."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None or "$ref" in content["schema"]:
        return
    schema = content["schema"]
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    content["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}


if __name__ == "__main__":
    sys.stdout.write(render())
