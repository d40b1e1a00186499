"""Compare answers with an OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

EVERYWHERE = frozenset(
    """
    accept-ranges cache-control connection content-length content-security-policy content-type
    cross-origin-opener-policy cross-origin-resource-policy date referrer-policy transfer-encoding
    vary x-content-type-options x-frame-options
    """.split()
)
"""Headers of HTTP itself, and headers that keep browsers from misusing an answer."""


class Document:
    """The document in a file. ``operations`` maps methods and paths to operations."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_bytes()
        self.whole: dict[str, Any] = json.loads(self.text)
        self.operations: dict[tuple[str, str], dict[str, Any]] = {
            (method.upper(), place): operation
            for place, operations in self.whole["paths"].items()
            for method, operation in operations.items()
        }

    def resolved(self, value: Any) -> Any:
        """Follow a reference; return any other value unchanged."""
        while isinstance(value, dict) and "$ref" in value:
            found: Any = self.whole
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    def responses(self, method: str, path: str) -> dict[int, dict[str, Any]]:
        """The responses of an operation by status; empty if there is no such operation."""
        operation = self.operations.get((method, path), {"responses": {}})
        return {int(code): self.resolved(each) for code, each in operation["responses"].items()}

    def validator(self, schema: Any) -> Draft202012Validator:
        """A validator of a schema of the document."""
        return Draft202012Validator({**schema, "components": self.whole["components"]})

    def check_sound(self) -> None:
        """Check that each schema follows the draft of OpenAPI 3.1, that each reference resolves,
        and that everything is described."""
        assert self.whole["openapi"] == "3.1.0"
        schemas = self.whole["components"]["schemas"].values()
        for schema in [*members(self.whole["paths"], "schema"), *schemas]:
            Draft202012Validator.check_schema(schema)
        used = {*members(self.whole, "$ref")}
        for reference in used:
            self.resolved({"$ref": reference})
        listed = {
            f"#/components/{kind}/{name}"
            for kind, names in self.whole["components"].items()
            for name in names
            if kind != "securitySchemes"
        }
        assert listed == used
        for method, path in self.operations:
            assert self.operations[method, path]["summary"]
            assert all(each["description"] for each in self.responses(method, path).values())

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Check that the document describes an answer: its status, its headers, its content type,
        and the schema of its body. HEAD is answered as GET. 404 and 405 may also answer a path or
        method outside the document."""
        asked = "GET" if method == "HEAD" else method
        places = (place for how, place in self.operations if how == asked)
        place = next((each for each in places if _matches(each, path)), "")
        responses = self.responses(asked, place)
        if not responses and status in (404, 405):
            return
        assert status in responses, (method, place, status)
        response, named = responses[status], {name.lower(): headers[name] for name in headers}
        documented = {name.lower() for name in response.get("headers", ())}
        assert named.keys() - EVERYWHERE <= documented, (method, place, status, named)
        kind = named.get("content-type", "").partition(";")[0]
        content = response.get("content", {})
        assert kind in content or (not kind and not body), (method, place, status, kind)
        schema = content.get(kind, {}).get("schema", {})
        if kind == "application/json" and method != "HEAD":
            self.validator(schema).validate(json.loads(body))


def _matches(template: str, path: str) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
    return re.fullmatch(pattern, path.partition("?")[0]) is not None


def members(value: Any, name: str) -> Iterator[Any]:
    """Yield every member with a name, at any depth."""
    if isinstance(value, list):
        for each in value:
            yield from members(each, name)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == name:
                yield each
            else:
                yield from members(each, name)
