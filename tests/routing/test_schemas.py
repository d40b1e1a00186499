"""The schemas of a configuration, their flows, and what changes about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from collector.config import Config, examine, load
from collector.errors import ConfigFaults, SchemaError
from collector.routing import Flows, all_flows, reaching
from collector.routing.changes import all_changes, document, reached, reasons, since, verdict
from collector.routing.schemas import accepted, configured, distinct
from collector.schema import load_schema
from tests.support.raising import raises

_TEXT = (Path(__file__).parents[2] / "schemas" / "conferencing-strict.yaml").read_text()
_WEB, _CALLS, _STRICT = map(load_schema, ("web", "conferencing", "conferencing-strict"))


def _config(folder: Path, text: str) -> Config:
    path = folder / "collector.yaml"
    path.write_text(text)
    return load(path)


def _named(folder: Path, name: str) -> str:
    """A copy of a schema under another name."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(_TEXT.replace("schema: conferencing-strict\n", f"schema: {name}\n"))
    return str(path)


def test_one_schema_or_several(tmp_path: Path) -> None:
    """In their order, by name or path; one is as it always was."""
    assert [s.name for s in configured(load())] == ["conferencing"]
    assert [s.name for s in configured(_config(tmp_path, "schema: web\n"))] == ["web"]
    listed = _config(tmp_path, f"schemas: [web, {_named(tmp_path, 'own')}, conferencing]\n")
    assert [s.name for s in configured(listed)] == ["web", "own", "conferencing"]
    assert listed.schema_setting == "schemas"
    by_environment = examine(None, {"COLLECTOR__SCHEMAS": "web, conferencing"}).config
    assert by_environment.references == ("web", "conferencing")


def _version(folder: Path, number: int, *changes: tuple[str, str]) -> str:
    """A version of a schema of its own, with some of its text changed."""
    path, text = folder / f"own-{number}.yaml", _TEXT
    version = ("version: 1.0.0", f"version: {number}.0.0")
    for old, new in (("schema: conferencing-strict\n", "schema: own\n"), version, *changes):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def test_earlier_versions_of_which_a_drain_takes_records(tmp_path: Path) -> None:
    retention = re.search(r"retention: \d+d", _TEXT)
    assert retention is not None
    now = _version(tmp_path, 2)
    shorter = _version(tmp_path, 1, (retention[0], "retention: 1d"))
    longer = _version(tmp_path, 3, (retention[0], "retention: 360d"))
    drain = "url: 'nats://127.0.0.1', stream: s"
    config = _config(tmp_path, f"schema: {now}\ndrain: {{{drain}, versions: [{shorter}]}}\n")
    assert [each.id for each in accepted(config, configured(config))] == ["own/1.0.0"]
    assert accepted(load(), (_CALLS,)) == ()
    for wrong, problem in (
        (longer, "admits what"),
        (now, "is the one in force"),
        ("web", "no schem"),
    ):
        listed = f"drain: {{{drain}, versions: [{shorter}, {wrong}]}}"
        faulty = _config(tmp_path, f"schema: {now}\n{listed}\n")
        with pytest.raises(ConfigFaults) as caught:
            accepted(faulty, configured(faulty))
        (fault,) = caught.value.faults
        assert (fault.field, fault.code) == ("drain.versions", "E122")
        assert fault.message.startswith(f"entry 2: {'it' if wrong == longer else ''}")
        assert problem in fault.message
    missing = _config(tmp_path, f"drain: {{{drain}, versions: [none]}}\n")
    with pytest.raises(SchemaError):
        accepted(missing, (_CALLS,))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schema: web\nschemas: [web]\n", "`schema` and `schemas` are both set"),
        ("schemas: []\n", "1 to 8"),
        ("schemas: [a, b, c, d, e, f, g, h, i]\n", "1 to 8"),
        ("schemas: [web, web]\n", "twice"),
        ("schemas: [web, 7]\n", "entry 2"),
        ("schemas: [web, '']\n", "entry 2"),
        ("schemas: {web: 1}\n", "list"),
    ],
)
def test_a_list_that_is_none(text: str, problem: str, tmp_path: Path) -> None:
    """It is a fault of the settings, which says what is wrong."""
    path = tmp_path / "collector.yaml"
    path.write_text(text)
    (fault,) = examine(path).faults
    assert problem in fault.message
    assert fault.field == "schemas"


def test_both_by_different_ways(tmp_path: Path) -> None:
    """A variable does not silently win over the list of the file."""
    path = tmp_path / "collector.yaml"
    path.write_text("schemas: [web]\n")
    (fault,) = examine(path, {"COLLECTOR__SCHEMA": "web"}).faults
    assert "`schema` and `schemas`" in fault.message


def test_schemas_that_cannot_run_together(tmp_path: Path) -> None:
    """Two of one name, or whose tables or views in a store would be one."""
    for names, problem in (
        (("web", "web"), "two schemas are called `web`"),
        (("a-b", "a_b"), "view"),
        (("web", "web_view"), "view"),
        (("web", "web-view"), ""),
    ):
        paths = [_named(tmp_path / f"{n}", name) for n, name in enumerate(names)]
        config = _config(tmp_path, f"schemas: [{', '.join(paths)}]\n")
        if problem:
            with raises("E122", ConfigFaults) as raised:
                configured(config)
            assert problem in raised.value.faults[0].message
        else:
            assert len(configured(config)) == 2
    assert distinct([_WEB, _CALLS, _STRICT]) == ""


def test_one_key_has_one_pace(tmp_path: Path) -> None:
    """Schemas may share a key of pseudonyms; rotated at two paces, it would be made anew each
    time."""
    field = """  user.id:
    kind: pseudonym
    from: [user_id]
    key: env:KEY
    rotate: PACE
    category: user.device
    purposes: [service_operations]
    retention: 30d
    reason: "Because of this"
"""
    schemas = []
    for name, pace in (("a", "1d"), ("b", "1d"), ("c", "7d")):
        (tmp_path / "x").mkdir(exist_ok=True)
        path = Path(_named(tmp_path / "x", name))
        text = path.read_text()
        text = text.replace("max_bits: 110", "max_bits: 300")
        path.write_text(text.replace("fields:\n", f"fields:\n{field.replace('PACE', pace)}"))
        schemas.append(load_schema(path))
    assert distinct(schemas[:2]) == ""
    assert "pace" in distinct(schemas)


def test_every_fault_of_every_schema(tmp_path: Path) -> None:
    """One that is not there is named by its place in the list."""
    config = _config(tmp_path, f"schemas: [web, {tmp_path / 'none.yaml'}, nothing]\n")
    with pytest.raises(SchemaError) as raised:
        configured(config)
    told = [(fault.code, fault.message.partition(":")[0]) for fault in raised.value.faults]
    assert told == [("E101", "entry 2"), ("E101", "entry 3")]


def test_a_purpose_of_one_schema_is_enough(tmp_path: Path) -> None:
    sinks = "sinks: {ndjson: {path: a, purposes: [capacity_planning, security]}}\n"
    web, calls = all_flows(_config(tmp_path, sinks), [_WEB, _CALLS])
    assert {name for each in web.to("ndjson").values() for name in each} == {"security"}
    assert "device.model.name" in calls.to("ndjson")
    assert "device.model.name" not in web.to("ndjson")
    fields_for = reaching([web, calls])
    assert fields_for("ndjson", "web", None) == frozenset({"client.address"})
    assert fields_for("ndjson", "conferencing", ("security",)) == calls.reaching(
        "ndjson", ("security",)
    )
    assert fields_for("store", "gone", None) is None
    with pytest.raises(LookupError):
        fields_for("ndjson", "gone", None)


@pytest.mark.parametrize(
    ("sinks", "code"),
    [
        ("{ndjson: {path: a, purposes: [nothing]}}", "E132"),
        ("{ndjson: {path: a, party: third, recipient: A, purposes: [capacity_planning]}}", "E309"),
    ],
)
def test_a_sink_that_fits_no_schema(sinks: str, code: str, tmp_path: Path) -> None:
    """The fault is that of the sink, once."""
    with raises(code, ConfigFaults) as raised:
        all_flows(_config(tmp_path, f"sinks: {sinks}\n"), [_WEB, _CALLS])
    assert len(raised.value.faults) == 1


def _flows(*schemas: str, sinks: str = "") -> tuple[Flows, ...]:
    config = Config(sinks={"ndjson": {"path": "a", "purposes": [sinks]}} if sinks else {})
    return all_flows(config, [load_schema(name) for name in schemas])


def _what(old: Sequence[Flows], new: Sequence[Flows]) -> dict[str, set[str]]:
    """The changes, by the schema that they are of; a document tells the same."""
    found = all_changes(old, new)
    told = since(document(*old), *new)
    assert told == [each for each in found if each.what not in ("schema widened", "schema changed")]
    by_schema: dict[str, set[str]] = {}
    for each in found:
        by_schema.setdefault(each.schema, set()).add(each.what)
    return by_schema


def test_changes_of_several() -> None:
    """One more is widening, one less is narrowing, and another default is in doubt: widening."""
    one, both = _flows("conferencing"), _flows("conferencing", "web")
    assert _what(both, both) == {}
    assert _what(one, both) == {"web": {"schema added", "flow added"}}
    assert _what(both, one) == {"web": {"schema removed", "flow removed"}}
    turned = _flows("web", "conferencing")
    assert _what(both, turned) == {"": {"another default"}}
    assert verdict(since(document(*both), *turned)) == "widening"
    assert verdict(since(document(*both), *one)) == "narrowing"
    told = reasons(since(document(*one), *both))
    assert told[0] == "web: schema added"
    assert told[1].startswith("web: store: flow added client.address")


def test_a_sink_of_several() -> None:
    """Its own changes are told once, its flows by schema."""
    both, more = _flows("conferencing", "web"), _flows("conferencing", "web", sinks="security")
    assert _what(both, more) == {
        "": {"sink added"},
        "conferencing": {"flow added"},
        "web": {"flow added"},
    }
    less = _flows("conferencing", "web", sinks="capacity_planning")
    assert _what(more, less)[""] == {"other purposes"}
    assert _what(more, less)["web"] == {"flow removed"}


def test_a_version_of_one_of_several(tmp_path: Path) -> None:
    """It is compared with that of its name."""
    (tmp_path / "p.yaml").write_text(_TEXT.replace("retention: 30d", "retention: 60d"))
    config = Config()
    old = all_flows(config, [_WEB, _STRICT])
    new = all_flows(config, [_WEB, load_schema(tmp_path / "p.yaml")])
    assert [(each.what, each.schema) for each in all_changes(old, new)] == [
        ("schema widened", "conferencing-strict")
    ]


def test_what_a_document_says_of_each_sink() -> None:
    one, both = _flows("web"), _flows("web", "conferencing", sinks="security")
    assert reached(document(*one)) == {"store": {"web": {*_WEB.fields}}}
    found = reached(document(*both))
    assert found["ndjson"]["web"] == {"client.address"}
    assert found["store"]["conferencing"] == {*_CALLS.fields}
