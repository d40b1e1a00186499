"""The endpoints of the recorder: one table, by which the API answers and its document is made.

The document, at ``/openapi.json``, is OpenAPI 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from collector.recording import bodies
from collector.recording.names import KINDS
from collector.recording.refusals import REFUSALS

PATTERNS = {
    "id": "[0-9a-f]{32}",
    "pseudonym": "[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    "track": "[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    "n": "0|[1-9][0-9]{0,9}",
}
"""The grammar of each parameter of a path."""


class Endpoint(NamedTuple):
    """An endpoint: its name in the API, the method and the path, who may call it (for readers: the
    recorder and the grant decide), and what it does.

    ``body`` and ``answer`` are names of ``bodies``, or media types; ``is_once`` tells that a token
    serves for one such request.
    """

    name: str
    method: str
    path: str
    who: str
    meaning: str
    status: int = 200
    answer: str | None = "StateBody"
    body: str | None = None
    is_once: bool = False


_ONE = "/v1/recordings/{id}"
_MEMBER = f"{_ONE}/members/{{pseudonym}}"
_TRACK = f"{_ONE}/tracks/{{track}}"
_OCTETS = "application/octet-stream"


def _by_host(name: str, meaning: str, who: str = "host") -> Endpoint:
    return Endpoint(name, "POST", f"{_ONE}/{name}", who, meaning, is_once=True)


ROUTES: tuple[Endpoint, ...] = (
    Endpoint(
        *("request", "POST", "/v1/recordings", "host", "Ask for a recording, and announce it."),
        status=201,
        answer="Created",
        body="RequestBody",
        is_once=True,
    ),
    Endpoint(
        *("withdraw", "DELETE", f"{_ONE}/members/me", "participant"),
        "Withdraw consent: the caller's tracks and every mixed one are destroyed.",
        status=204,
        answer=None,
        is_once=True,
    ),
    Endpoint("join", "PUT", _MEMBER, "platform", "Put a member on the roster.", 204, None),
    Endpoint(
        *("depart", "DELETE", _MEMBER, "platform", "Take a member off the roster."),
        status=204,
        answer=None,
        is_once=True,
    ),
    _by_host("start", "Open the announced recording."),
    _by_host("pause", "Take nothing until the host resumes."),
    _by_host("resume", "Open the paused recording again."),
    _by_host("stop", "Close the recording."),
    _by_host("handover", "Name the heir of the host.")._replace(body="HandoverBody"),
    _by_host("accept", "Become the host.", "heir"),
    Endpoint(
        *("notice_wav", "GET", f"{_ONE}/notice.wav", "participant", "Fetch the notice as sound."),
        answer="audio/wav",
    ),
    Endpoint(
        *("notice_png", "GET", f"{_ONE}/notice.png", "participant", "Fetch it as a picture."),
        answer="image/png",
    ),
    Endpoint(
        *("choice", "PUT", f"{_ONE}/choice", "participant", "Stay, or leave."),
        body="ChoiceBody",
        is_once=True,
    ),
    Endpoint(
        *("chunk", "PUT", f"{_TRACK}/chunks/{{n}}", "participant, media"),
        "Deliver the next chunk of a track.",
        status=201,
        answer="NextBody",
        body=_OCTETS,
    ),
    Endpoint(
        *("events", "GET", f"{_ONE}/events", "members, media, platform"),
        "Follow the state, until the token expires.",
        answer="text/event-stream",
    ),
    Endpoint(
        *("track", "GET", _TRACK, "host, heir, viewer"),
        "Read a track of a closed recording; in local storage it is a tar of age files.",
        answer=_OCTETS,
    ),
    Endpoint(
        *("manifest", "GET", f"{_ONE}/manifest", "host, heir, viewer, auditor"),
        "Fetch the signed manifest.",
        answer="application/x-ndjson",
    ),
    Endpoint(
        *("erase", "DELETE", _ONE, "host", "Erase the closed recording."),
        status=204,
        answer=None,
        is_once=True,
    ),
)
"""Every endpoint; of two that match, the first one counts."""


def _matcher(route: Endpoint) -> re.Pattern[str]:
    pattern = re.escape(route.path).replace(r"\{", "{").replace(r"\}", "}")
    for name, grammar in PATTERNS.items():
        pattern = pattern.replace(f"{{{name}}}", f"(?P<{name}>{grammar})")
    return re.compile(pattern, re.ASCII)


_MATCHERS = tuple((route, _matcher(route)) for route in ROUTES)


def find(method: str, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
    """Return the endpoint of a request and the parameters in its path, if there is one."""
    for route, matcher in _MATCHERS:
        if route.method == method and (found := matcher.fullmatch(path)):
            return route, found.groupdict()
    return None


_BODIES: dict[str, type[msgspec.Struct]] = {
    kind.__name__: kind
    for kind in (
        bodies.RequestBody,
        bodies.ChoiceBody,
        bodies.HandoverBody,
        bodies.Created,
        bodies.StateBody,
        bodies.NextBody,
        bodies.ErrorBody,
    )
}
_REFERENCES = "#/components/schemas/{name}"
_STATUSES = sorted({str(each.status) for each in REFUSALS.values()})
_OWNER = "A pseudonym, or `mixed` from media; a participant's own by default."
_HEADERS: dict[str, tuple[tuple[str, str, bool, dict[str, Any]], ...]] = {
    "chunk": (
        ("Collector-Kind", "What the track holds.", True, {"enum": sorted(KINDS)}),
        ("Collector-Owner", _OWNER, False, {"type": "string"}),
    ),
    "track": (("Range", "One range of bytes, for cloud storage.", False, {"type": "string"}),),
    "events": (("Last-Event-ID", "The last event that was seen.", False, {"type": "integer"}),),
}
"""The headers of an endpoint: name, meaning, whether it is required, schema."""


@cache
def document() -> bytes:
    """Return the document as JSON."""
    _, schemas = msgspec.json.schema_components(_BODIES.values(), ref_template=_REFERENCES)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Collector recorder",
            "version": version("data-minimisation-collector"),
            "description": "Recordings by a host's decision. Without a token that is validly signed"
            " for the meeting, the answer is 404 whatever is asked for. A token's `jti` serves for"
            " one POST, DELETE or choice; the same request again has the same answer. The host is"
            " this recording's; another host of the meeting is like any other participant.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
            "responses": {status: _content(_meaning(status), "ErrorBody") for status in _STATUSES},
        },
    }
    return msgspec.json.encode(whole)


def _operation(route: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.meaning,
        "description": f"Who: {route.who}.",
        "parameters": [_in_path(name) for name in re.findall(r"\{(\w+)\}", route.path)],
        "responses": {str(route.status): _content("Done.", route.answer)}
        | {each: {"$ref": f"#/components/responses/{each}"} for each in _STATUSES},
    }
    for name, meaning, is_required, schema in _HEADERS.get(route.name, ()):
        header = {"name": name, "in": "header", "description": meaning, "schema": schema}
        operation["parameters"].append(header | {"required": is_required})
    if route.body is not None:
        operation["requestBody"] = {"required": True} | _content(None, route.body)
    if route.name == "track":
        operation["responses"]["206"] = _content("The range.", route.answer)
        operation["responses"]["416"] = {"description": "There is no such byte."}
    return operation


def _in_path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^(?:{PATTERNS[name]})$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _content(meaning: str | None, kind: str | None) -> dict[str, Any]:
    """Return a response, or a body without a meaning: of a schema, of a media type, or empty."""
    found: dict[str, Any] = {} if meaning is None else {"description": meaning}
    if kind in _BODIES:
        schema = {"$ref": _REFERENCES.format(name=kind)}
        found["content"] = {"application/json": {"schema": schema}}
    elif kind is not None:
        found["content"] = {kind: {}}
    return found


def _meaning(status: str) -> str:
    """List the codes of a status."""
    codes = [code for code, each in REFUSALS.items() if str(each.status) == status]
    return "; ".join(f"`{code}`: {REFUSALS[code].message}" for code in codes)
