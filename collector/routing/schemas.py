"""The schemas of a configuration: one, or several, with the default first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from collector.config import Config
from collector.errors import ConfigFaults, Fault, SchemaError
from collector.schema.diff import compare
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.load import parse
from collector.schema.model import Schema
from collector.schema.review import Review, read_copy, review
from collector.sinks.store_file import view_of

_Parse = Callable[[str], tuple[Schema | None, list[Fault]]]


def configured(config: Config, parse_one: _Parse = parse) -> tuple[Schema, ...]:
    """Load the schemas of a configuration, the default first. ``parse_one`` reads one of them.

    Raises ``SchemaError`` with the faults of all schemas, and ``ConfigFaults`` E122 for schemas
    that cannot run together.
    """
    found = _loaded(config.references, parse_one, are_listed=bool(config.schemas))
    if problem := distinct(found):
        raise ConfigFaults([Fault("settings", 0, 0, config.schema_setting, problem, "E122")])
    return tuple(found)


def _loaded(references: Iterable[str], parse_one: _Parse, *, are_listed: bool) -> list[Schema]:
    """Load schemas; if they ``are_listed``, faults say which entry of the list is missing. Raises
    ``SchemaError`` with the faults of all."""
    found: list[Schema] = []
    faults: list[Fault] = []
    for number, reference in enumerate(references, 1):
        schema, wrong = parse_one(reference)
        faults += [_numbered(fault, number) if are_listed else fault for fault in wrong]
        found += [] if schema is None else [schema]
    if faults:
        raise SchemaError(faults)
    return found


def accepted(config: Config, schemas: Sequence[Schema]) -> tuple[Schema, ...]:
    """Load the earlier versions of schemas whose records a drain also takes.

    Raises ``SchemaError`` with the faults of all, and ``ConfigFaults`` E122 for a version of no
    schema in force, for the version in force itself, and for one that admits more: nothing is kept
    that would not be collected now.
    """
    in_force = {schema.name: schema for schema in schemas}
    found = _loaded(config.drain.versions, parse, are_listed=True)
    problems = [
        Fault("settings", 0, 0, "drain.versions", f"entry {number}: {problem}", "E122")
        for number, schema in enumerate(found, 1)
        if (problem := _unacceptable(schema, in_force.get(schema.name)))
    ]
    if problems:
        raise ConfigFaults(problems)
    return tuple(found)


def _unacceptable(version: Schema, in_force: Schema | None) -> str:
    """Return why records of a version are not taken; empty if they are."""
    if in_force is None:
        return "no schema in force has this name; name it in `schemas`"
    if version.digest == in_force.digest:
        return "this version is the one in force; leave it out"
    if any(change.verdict == "widening" for change in compare(in_force, version).changes):
        return (
            "it admits what the version in force does not (`collector schema diff`); let drains"
            " take what waits under it before they get the new version"
        )
    return ""


def distinct(schemas: Sequence[Schema]) -> str:
    """Return why schemas cannot run together; empty if they can. Each needs its own table and view,
    and a key of pseudonyms has only one period."""
    names = [schema.name for schema in schemas]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        return f"two schemas are called `{twice[0]}`; a name stands for one schema"
    taken = Counter([*names, *map(view_of, names)])
    clash = next((name for name in names if taken[view_of(name)] > 1), None)
    if clash is not None:
        return f"the view of `{clash}` in the store would have the name of another; rename a schema"
    rotations: dict[str, timedelta] = {}
    for schema in schemas:
        for field in schema.fields.values():
            if (
                isinstance(field, PseudonymField)
                and rotations.setdefault(field.key, field.rotate) != field.rotate
            ):
                return f"`{schema.name}` rotates a key at another pace than another schema"
    return ""


def reviewed(config: Config, schemas: Sequence[Schema]) -> dict[str, Review]:
    """Compare the schemas of a configuration with their approved copies, by their names."""
    places = map(config.approved_copy, config.references)
    return {
        schema.name: review(schema, read_copy(place))
        for schema, place in zip(schemas, places, strict=True)
    }


def _numbered(fault: Fault, number: int) -> Fault:
    """Name the entry of the list in the fault of a missing schema."""
    if not fault.is_absent:
        return fault
    return fault._replace(message=f"entry {number}: {fault.message}")
