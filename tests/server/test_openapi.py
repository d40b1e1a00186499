"""The documents at ``/openapi.json``: sound, complete, and of what is configured only."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from collector.contracts import Request, Tally
from collector.ingest.http import EventsHandler
from collector.ingest.limits import IngestLimits
from collector.ingest.memory import MemoryBudget
from collector.ingest.refusals import (
    FOREIGN_HOST,
    INVALID_KEY,
    KEY_REUSED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    REFUSALS,
    SCHEMA_MISMATCH,
    UNAUTHENTICATED,
)
from collector.ingest.request import GPC_PATH, ROUTES, HttpRequest
from collector.server.admin import AdminPages
from collector.server.openapi import admin_document, receiver_document

_BARE = {"has_tokens": False, "has_preferences": False, "has_hosts": False}


def _receiver(**settings: Any) -> dict[str, Any]:
    schemas = settings.pop("schemas", ["conferencing"])
    found = json.loads(receiver_document(schemas=schemas, **{**_BARE, **settings}))
    assert isinstance(found, dict)
    return found


_DOCUMENTS = [
    _receiver(),
    _receiver(has_tokens=True, has_preferences=True, has_hosts=True, schemas=["web", "webrtc"]),
    *(json.loads(admin_document(has_tokens=has_tokens)) for has_tokens in (True, False)),
]


def _all(value: Any, name: str) -> list[Any]:
    """Every member of a name, at any depth."""
    if isinstance(value, list):
        return [found for each in value for found in _all(each, name)]
    if not isinstance(value, dict):
        return []
    return [value[key] for key in value if key == name] + _all([*value.values()], name)


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_it_is_sound(document: dict[str, Any]) -> None:
    """Each schema is one of the draft of OpenAPI 3.1, and each reference leads somewhere."""
    assert document["openapi"] == "3.1.0"
    for schema in [*_all(document, "schema"), *document["components"]["schemas"].values()]:
        Draft202012Validator.check_schema(schema)
    for reference in _all(document, "$ref"):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert all(each["description"] for each in operation["responses"].values())


def test_every_receiver_path_is_in_it() -> None:
    """With every refusal that it can have, each by its code and under its status."""
    document = _receiver(has_tokens=True, has_hosts=True)
    assert set(document["paths"]) == {*ROUTES, GPC_PATH, "/openapi.json"}
    for path in ROUTES:
        responses = document["paths"][path]["post"]["responses"]
        explained = {
            (code, status)
            for status, each in responses.items()
            for code in re.findall(r"\bE\d{3}\b", each["description"])
        }
        of_records = {INVALID_KEY, SCHEMA_MISMATCH, KEY_REUSED} if path != "/v1/records" else set()
        left_out = {NOT_FOUND, METHOD_NOT_ALLOWED, *of_records}
        assert explained == {(r.code, str(r.status)) for r in REFUSALS if r not in left_out}


def test_it_says_what_is_configured() -> None:
    """Tokens, hosts, the page of preferences and schemas, and no more."""
    bare, whole = _DOCUMENTS[0], _DOCUMENTS[1]
    for refusal in (UNAUTHENTICATED, FOREIGN_HOST):
        assert refusal.message not in json.dumps(bare["paths"])
        assert refusal.message in json.dumps(whole["paths"])
    assert "securitySchemes" not in bare["components"]
    assert "/preferences" not in bare["paths"]
    assert whole["paths"].keys() >= {"/preferences"}
    assert ["conferencing"] in _all(bare, "enum")
    assert ["web", "webrtc"] in _all(whole, "enum")


async def _accept(_: Request) -> Tally:
    raise AssertionError


@pytest.mark.parametrize("path", ["/openapi.json", GPC_PATH])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
def test_documents_are_read(path: str, method: str) -> None:
    """By everybody; another method is 405 and has the methods that are taken."""
    handler = EventsHandler.of(
        _accept, budget=MemoryBudget(IngestLimits()), document=b'{"openapi":"3.1.0"}'
    )
    response = asyncio.run(handler(HttpRequest(method, path, [(b"host", b"localhost")])))
    assert response is not None
    is_read = method in ("GET", "HEAD")
    assert response.status == (200 if is_read else 405)
    assert dict(response.headers).get(b"allow") == (None if is_read else b"GET, HEAD")
    assert isinstance(json.loads(response.body), dict)


def test_that_of_the_admin_address_needs_no_token() -> None:
    """It tells that the metrics do."""
    pages = AdminPages(dict, bytes, is_public=True, admits=lambda _: False)
    found = asyncio.run(pages(HttpRequest("GET", "/openapi.json", [(b"host", b"localhost")])))
    assert found.status == 200
    document = json.loads(found.body)
    assert document["paths"]["/metrics"]["get"]["security"] == [{"token": []}]
    assert "security" not in document["paths"]["/livez"]["get"]
