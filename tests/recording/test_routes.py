"""The document at ``/openapi.json``: sound, complete, true of what the API takes and answers. That
each answer of a recorder is in it, ``Meeting.call`` checks."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from collector.recording import bodies
from collector.recording.bodies import ChoiceBody, HandoverBody, RequestBody, decoded
from collector.recording.names import KINDS
from collector.recording.refusals import REFUSALS, Refused
from collector.recording.routes import PATTERNS, ROUTES, find
from tests.recording.serving import DOCUMENT, TERMS
from tests.support.rows import for_each

_STATUSES = {each.status for each in REFUSALS.values()}
_AGAIN = {429, 503, 507}
_BODIES = [
    each
    for each in vars(bodies).values()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and each is not msgspec.Struct
]


def test_it_is_sound() -> None:
    DOCUMENT.check_sound()


def test_every_endpoint_is_in_it() -> None:
    routes = {(route.method, route.path): route for route in ROUTES}
    assert DOCUMENT.operations.keys() == routes.keys()
    for (method, path), operation in DOCUMENT.operations.items():
        assert operation["operationId"] == routes[method, path].name
        given = [DOCUMENT.resolved(each) for each in operation["parameters"]]
        in_path = {
            each["name"]: each["schema"]["pattern"] for each in given if each["in"] == "path"
        }
        names = re.findall(r"\{(\w+)\}", path)
        assert in_path == {name: f"^(?:{PATTERNS[name]})$" for name in names}
        headers = {each["name"].lower(): each["schema"] for each in given if each["in"] == "header"}
        if "collector-kind" in headers:
            assert headers["collector-kind"] == {"enum": sorted(KINDS)}


def test_every_refusal_is_in_it() -> None:
    """Each endpoint has each status, with its codes, their messages, the headers and the body."""
    for method, path in DOCUMENT.operations:
        responses = DOCUMENT.responses(method, path)
        own = {416} if path.endswith("{track}") and method == "GET" else set[int]()
        assert {status for status in responses if status >= 400} == _STATUSES | own
        for status in _STATUSES:
            there = {code: each for code, each in REFUSALS.items() if each.status == status}
            described = "; ".join(f"`{code}`: {each.message}" for code, each in there.items())
            assert responses[status]["description"] == described
            extra = {"retry-after"} if status in _AGAIN else set[str]()
            extra |= {"www-authenticate"} if status == 401 else set()
            assert responses[status].get("headers", {}).keys() == extra
            schema = responses[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}


def test_schemas_of_bodies() -> None:
    """They are those of the types that the API decodes and encodes. Python 3.13 takes the margin
    out of docstrings."""
    _, found = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    for schema in found.values():
        schema["description"] = " ".join(schema["description"].split())
    assert DOCUMENT.whole["components"]["schemas"] == json.loads(msgspec.json.encode(found))


@for_each(
    ("kind", "body"),
    [
        (RequestBody, TERMS),
        (RequestBody, {**TERMS, "retention": 3600}),
        (RequestBody, {**TERMS, "storage": "local", "recipient": "age1" + "q" * 58}),
        (ChoiceBody, {"choice": "stay", "notice": "0" * 64}),
        (HandoverBody, {"to": "ben"}),
    ],
)
def test_bodies(kind: Any, body: dict[str, Any]) -> None:
    """What the schema allows, the API decodes; what it does not, the API refuses as well."""
    validator = DOCUMENT.validator({"$ref": f"#/components/schemas/{kind.__name__}"})
    validator.validate(body)
    decoded(json.dumps(body).encode(), kind)
    without = [{name: body[name] for name in body if name != left} for left in body]
    wrong = [{**body, name: {"x": 1}} for name in body]
    for faulty in [*without, *wrong, {**body, "more": 1}]:
        is_valid = validator.is_valid(faulty)
        if is_valid:
            decoded(json.dumps(faulty).encode(), kind)
        else:
            with pytest.raises(Refused):
                decoded(json.dumps(faulty).encode(), kind)


def test_what_is_no_body() -> None:
    """Each is refused, by one code."""
    for body in [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"a":1}']:
        with pytest.raises(Refused, match="malformed"):
            decoded(body, ChoiceBody)


def test_members_that_are_there_twice() -> None:
    """Would be read differently by different programs."""
    cases: list[tuple[Any, str]] = [
        (ChoiceBody, '{"choice": "leave", "choice": "stay", "notice": "%s"}' % ("0" * 64)),
        (ChoiceBody, '{"choice": "leave", "ch\\u006fice": "stay", "notice": "%s"}' % ("0" * 64)),
        (HandoverBody, '{"to": "ben", "to": "eve"}'),
        (RequestBody, json.dumps(TERMS)[:-1] + ', "retention": "9d"}'),
        (
            RequestBody,
            json.dumps(TERMS).replace('"language"', '"language": "id", "language"'),
        ),
    ]
    for kind, body in cases:
        with pytest.raises(Refused, match="malformed"):
            decoded(body.encode(), kind)


def test_paths() -> None:
    """A path leads to one endpoint at most, and only in its own spelling."""
    one = "/v1/recordings/" + "0a" * 16
    found = find("DELETE", f"{one}/members/me")
    assert found is not None
    assert found[0].name == "withdraw"
    for path in (one.upper(), f"{one}/", f"{one}//events", f"{one}/tracks/../manifest", f"{one}\n"):
        assert find("GET", path) is None
    assert find("GET", f"{one}/tracks/{'x' * 65}") is None
    assert find("PUT", f"{one}/tracks/x/chunks/01") is None
