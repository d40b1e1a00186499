"""The documents at ``/openapi.json``: OpenAPI 3.1 of what a sidecar answers, as it is configured.

Each address has its own. A document is made of constants, and of the names of configured schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson

from collector.contracts import REJECTIONS, Signal
from collector.ingest.refusals import (
    BUSY,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    INVALID_KEY,
    KEY_REUSED,
    MALFORMED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    REFUSALS,
    REQUEST_TIMEOUT,
    SCHEMA_MISMATCH,
    STOPPING,
    TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    UNAUTHENTICATED,
    Refusal,
)
from collector.ingest.request import DOCUMENT_PATH, GPC_PATH, ROUTES, Route
from collector.ingest.responses import REJECTED_MEMBERS

_Json = dict[str, Any]
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_TEXT = "text/plain"
_HTML = "text/html"
_FORM = "application/x-www-form-urlencoded"
_COUNT = {"type": "integer", "minimum": 0}
_DIGITS = {"type": "string", "pattern": "^[0-9]+$"}
_REJECTED = {
    "type": "object",
    "properties": dict.fromkeys(REJECTIONS, _COUNT),
    "additionalProperties": False,
}
_COUNTS: _Json = {"received": _COUNT, "admitted": _COUNT, "rejected": _REJECTED}
_MEANINGS = {
    "/v1/events": "Send events: a JSON object or array, or one a line. They are filtered.",
    "/v1/records": "Send records that an SDK has filtered, one a line. They are checked.",
    "/v1/logs": "Send log records, each of which is an event (OTLP).",
    "/v1/traces": "Send spans, each of which is an event (OTLP).",
    "/v1/metrics": "Send data points, each of which is an event (OTLP).",
}
_LISTS: dict[Signal, str] = {
    "logs": "resourceLogs",
    "traces": "resourceSpans",
    "metrics": "resourceMetrics",
}
_OF_RECORDS = (INVALID_KEY, SCHEMA_MISMATCH, KEY_REUSED)
_OTHERWHERE = (*_OF_RECORDS, METHOD_NOT_ALLOWED, NOT_FOUND, UNAUTHENTICATED)
_PROTOCOL = (
    MALFORMED,
    REQUEST_TIMEOUT,
    TOO_LARGE,
    HEADERS_TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    BUSY,
    STOPPING,
    INTERNAL_ERROR,
)
"""How a request is refused wherever it goes."""


def receiver_document(
    *, schemas: Sequence[str], has_tokens: bool, has_preferences: bool, has_hosts: bool
) -> bytes:
    """Return the document of a receiver of events: the schemas that it has, whether senders need a
    token, whether visitors choose there, and whether only some hosts are answered for."""
    everywhere = (*_PROTOCOL, *([FOREIGN_HOST] if has_hosts else []))
    paths: dict[str, _Json] = {
        path: {"post": _sending(path, route, schemas, has_tokens, everywhere)}
        for path, route in ROUTES.items()
    }
    if has_preferences:
        paths["/preferences"] = _preferences(everywhere)
    gpc = _object({"gpc": {"const": True}, "lastUpdate": {"type": "string", "format": "date"}})
    paths[GPC_PATH] = {
        "get": _reading("The statement on Global Privacy Control.", _JSON, gpc, everywhere)
    }
    paths[DOCUMENT_PATH] = {"get": _reading("This document.", _JSON, {}, everywhere)}
    return _document(
        "Collector",
        "What is sent is answered when the records that were made of it are on disk. 503 asks to"
        " send the same again.",
        paths,
        has_tokens=has_tokens,
    )


def admin_document(*, has_tokens: bool) -> bytes:
    """Return the document of the admin address: whether more than health needs a token there."""
    everywhere = _of(_PROTOCOL, _ERROR) | {
        "403": _answer(FOREIGN_ORIGIN.message, {_TEXT: {}}),
        "421": _answer(FOREIGN_HOST.message, {_TEXT: {}}),
    }
    text = {"type": "string"}
    live = _read("Whether the process runs.", {"200": _answer("It runs.", {_TEXT: text})})
    ready = _read(
        "Whether it receives, and keeps what comes.",
        {
            "200": _answer("It does.", {_TEXT: text}),
            "503": _answer("It does not, or has no room for the request.", {_TEXT: text, **_ERROR}),
        },
    )
    verbose = {"name": "verbose", "in": "query", "schema": {}, "allowEmptyValue": True}
    ready["parameters"] = [verbose | {"description": "List each check."}]
    shown = _read("Metrics for Prometheus.", {"200": _answer("All of them.", {_TEXT: text})})
    page = _read("A page that leads to the others.", {"200": _answer("It.", {_HTML: text})})
    own = _read("This document.", {"200": _answer("It.", {_JSON: {}})})
    for operation in (shown, page) if has_tokens else ():
        operation["security"] = [{"token": []}]
        operation["responses"]["401"] = _answer(UNAUTHENTICATED.message, {_TEXT: {}})
    paths = {"/livez": live, "/readyz": ready, "/metrics": shown, "/": page, DOCUMENT_PATH: own}
    for operation in paths.values():
        operation["responses"] = everywhere | operation["responses"]
    described = "Health and metrics: constants and counts."
    whole = {path: {"get": operation} for path, operation in paths.items()}
    return _document("Collector: health and metrics", described, whole, has_tokens=has_tokens)


def _document(title: str, meaning: str, paths: Mapping[str, _Json], *, has_tokens: bool) -> bytes:
    components: _Json = {"schemas": {"Error": _error()}}
    if has_tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    info = {"title": title, "description": meaning, "version": _version()}
    whole = {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
    return orjson.dumps(whole)


_PACKAGE = "data-minimisation-collector"
_ERROR: _Json = {_JSON: {"$ref": "#/components/schemas/Error"}}


_ERRORS: _Json = {
    "error": {
        "type": "object",
        "properties": {"code": {"const": KEY_REUSED.code}, "message": {"type": "string"}},
        "required": ["code", "message"],
        "additionalProperties": False,
    }
}
"""The member of a refusal that has counts beside it."""


def _earlier(more: _Json) -> _Json:
    """Return the schema of the counts of an earlier request that had the same key."""
    return _object({**_COUNTS, "repeated": {"const": True}, **more})


def _error() -> _Json:
    """Return the schema of a refusal; OTLP's members are beside Collector's own."""
    own = _object(
        {"code": {"enum": sorted({each.code for each in REFUSALS})}, "message": {"type": "string"}}
    )
    return {
        "type": "object",
        "properties": {"error": own, "code": {"type": "integer"}, "message": {"type": "string"}},
        "required": ["error"],
        "additionalProperties": False,
    }


def _object(properties: Mapping[str, Any]) -> _Json:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _sending(
    path: str,
    route: Route,
    schemas: Sequence[str],
    has_tokens: bool,
    everywhere: Iterable[Refusal],
) -> _Json:
    """Return the operation of a path that takes events or records."""
    is_records = "records" in route.forms.values()
    refusals = {each for each in REFUSALS if each not in (*_OTHERWHERE, FOREIGN_HOST)}
    refusals |= {*everywhere, *(_OF_RECORDS if is_records else ())}
    refusals |= {UNAUTHENTICATED} if has_tokens else set()
    errors = _ERROR | ({} if route.signal is None else {_PROTOBUF: {}})
    found: _Json = {"operationId": path.rpartition("/")[2], "summary": _MEANINGS[path]}
    found["parameters"] = [*_parameters(schemas, is_records=is_records)]
    bodies = {kind.decode(): {"schema": _sent(kind.decode(), route)} for kind in route.forms}
    found["requestBody"] = {"required": True, "content": bodies}
    found["responses"] = {"200": _taken(route.signal, is_records)} | _of(refusals, errors)
    if is_records:
        refused = found["responses"][str(KEY_REUSED.status)]
        refused["content"] = {_JSON: {"schema": {"anyOf": [_ERROR[_JSON], _earlier(_ERRORS)]}}}
    if has_tokens:
        found["security"] = [{"token": []}]
    return found


def _sent(kind: str, route: Route) -> _Json:
    """Return the schema of a body: loose, since what a schema of events does not admit is counted
    and left out."""
    if kind == _PROTOBUF:
        return {"type": "string", "format": "binary"}
    if kind == _JSON and route.signal is not None:
        lists = {"type": "array", "items": {"type": "object"}}
        return {"type": "object", "properties": {_LISTS[route.signal]: lists}}
    return {} if kind == _JSON else {"type": "string"}


def _parameters(schemas: Sequence[str], *, is_records: bool) -> Iterable[_Json]:
    names = {"enum": [*schemas]}
    described = "The schema of the events; the first is the default."
    for name, place in (("Collector-Schema", "header"), ("schema", "query")):
        yield {"name": name, "in": place, "description": described, "schema": names}
    signal = {"schema": {"type": "string"}, "in": "header"}
    yield {"name": "Sec-GPC", "description": "1: no optional purpose is granted."} | signal
    if is_records:
        key = {"type": "string", "pattern": '^([0-9A-Fa-f]{32}|"[0-9A-Fa-f]{32}")$'}
        described = (
            "Of a request that may come again: it is stored once. Later ones are answered with what"
            " was stored: 200 for the same body, 409 for another."
        )
        yield {"name": "Idempotency-Key", "in": "header", "description": described, "schema": key}


def _taken(signal: Signal | None, is_records: bool) -> _Json:
    if is_records:
        counts = {"anyOf": [_object(_COUNTS), _earlier({})]}
        return _answer("What was stored, now or before, is on disk; the counts.", {_JSON: counts})
    if signal is None:
        return _answer("What was stored is on disk; the counts.", {_JSON: _object(_COUNTS)})
    partial = {REJECTED_MEMBERS[signal]: _DIGITS, "errorMessage": {"type": "string"}}
    whole = {"type": "object", "properties": {"partialSuccess": _object(partial)}}
    content = {_JSON: whole | {"additionalProperties": False}, _PROTOBUF: {}}
    return _answer("What was stored is on disk; the number of items that were rejected.", content)


def _preferences(everywhere: Iterable[Refusal]) -> _Json:
    """Return the operations of the page on which visitors choose."""
    text: _Json = {_TEXT: {}}
    shared = _of(everywhere, _ERROR)
    page = {"200": _answer("The page.", {_HTML: {"type": "string"}})}
    done = _answer("The choice is in a cookie.", {})
    done["headers"] = {"Location": {"schema": {"type": "string"}}}
    refused = {
        "403": _answer("The form is of a page of another origin.", text),
        "413": _answer("The form is too large.", text | _ERROR),
        "415": _answer("It is no form.", text),
    }
    form = {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "get": _read("The page on which a visitor chooses.", page | shared),
        "post": {
            "summary": "Choose.",
            "requestBody": {"required": True, "content": {_FORM: {"schema": form}}},
            "responses": shared | refused | {"303": done},
        },
    }


def _reading(meaning: str, kind: str, schema: _Json, everywhere: Iterable[Refusal]) -> _Json:
    return _read(meaning, {"200": _answer("It.", {kind: schema})} | _of(everywhere, _ERROR))


def _read(meaning: str, responses: _Json) -> _Json:
    return {"summary": meaning, "responses": responses}


def _of(refusals: Iterable[Refusal], content: Mapping[str, Any]) -> _Json:
    """Return the responses of refusals, by status, with the codes of each."""
    by_status: dict[str, list[Refusal]] = {}
    for refusal in sorted({*refusals}):
        by_status.setdefault(str(refusal.status), []).append(refusal)
    found = {}
    for status, each in by_status.items():
        found[status] = _answer("; ".join(f"{one.code}: {one.message}" for one in each), content)
        headers = {name for one in each for name, _ in one.headers if name != b"allow"}
        if headers:
            named = {name.decode(): {"schema": {"type": "string"}} for name in sorted(headers)}
            found[status]["headers"] = named
    return found


def _answer(meaning: str, content: Mapping[str, Any]) -> _Json:
    schemas = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"description": meaning} | ({"content": schemas} if schemas else {})


@cache
def _version() -> str:
    """Return the version, which a worker reads before it is confined."""
    return version(_PACKAGE)
