"""The document at ``/openapi.json``: sound, complete, true of what the API takes and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from collector.recording.bodies import ChoiceBody, HandoverBody, RequestBody, decoded
from collector.recording.refusals import REFUSALS, Refused
from collector.recording.routes import ROUTES, document, find
from tests.recording.serving import TERMS

DOCUMENT: dict[str, Any] = json.loads(document())


def _validator(name: str) -> Draft202012Validator:
    components = {"components": DOCUMENT["components"]}
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **components})


def test_every_schema_is_one() -> None:
    """Each is a JSON Schema of the draft of OpenAPI 3.1, and every reference leads to one."""
    assert DOCUMENT["openapi"] == "3.1.0"
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(DOCUMENT):
        found = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def _references(value: object) -> list[str]:
    if isinstance(value, list):
        return [each for item in value for each in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if "$ref" in value else []
    return own + [each for item in value.values() for each in _references(item)]


def test_every_endpoint_is_in_it() -> None:
    """And no other; each path parameter is declared, and each code of a refusal is explained."""
    listed = {
        (method.upper(), path): operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    assert set(listed) == {(route.method, route.path) for route in ROUTES}
    for (_, path), operation in listed.items():
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert operation["responses"].keys() >= {"401", "404", "409"}
    names = [operation["operationId"] for operation in listed.values()]
    assert len(set(names)) == len(names)
    explained = " ".join(
        each["description"] for each in DOCUMENT["components"]["responses"].values()
    )
    assert all(f"`{code}`" in explained for code in REFUSALS)


@pytest.mark.parametrize(
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
    validator = _validator(kind.__name__)
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


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"a":1}'])
def test_what_is_no_body(body: bytes) -> None:
    """Each is refused, by one code."""
    with pytest.raises(Refused, match="malformed"):
        decoded(body, ChoiceBody)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChoiceBody, '{"choice": "leave", "choice": "stay", "notice": "%s"}' % ("0" * 64)),
        (ChoiceBody, '{"choice": "leave", "ch\\u006fice": "stay", "notice": "%s"}' % ("0" * 64)),
        (HandoverBody, '{"to": "ben", "to": "eve"}'),
        (RequestBody, json.dumps(TERMS)[:-1] + ', "retention": "9d"}'),
        (
            RequestBody,
            json.dumps(TERMS).replace('"language"', '"language": "id", "language"'),
        ),
    ],
)
def test_members_that_are_there_twice(kind: Any, body: str) -> None:
    """Would be read differently by different programs."""
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
