"""Where events hold what a schema looks for: the keys on the way to a value."""

from __future__ import annotations

from collector.schema import Schema

__all__ = ["Path", "choices_of", "paths_of", "reads_lists", "ways"]

Path = tuple[str | int, ...]


def ways(source: str) -> list[Path]:
    """A path nested, then as one flat key; a number leads into an event that is a list."""
    if not source.startswith("["):
        return list(dict.fromkeys([tuple(source.split(".")), (source,)]))
    index, _, rest = source[1:].partition("]")
    if not rest:
        return [(int(index),)]
    return [(int(index), *path) for path in ways(rest[1:])]


def paths_of(schema: Schema, name: str) -> list[Path]:
    """Where a field is looked for: each source nested, then as one flat key; its name at last."""
    listed = schema.fields[name].sources or ()
    sources = listed if name in listed else (*listed, name)
    return list(dict.fromkeys(path for source in sources for path in ways(source)))


def reads_lists(schema: Schema) -> bool:
    """Whether events may be lists."""
    sources = [path for field in schema.fields.values() for path in field.sources or ()]
    every = [*sources, *(schema.records or ()), *schema.user_agent_paths]
    return any(path.startswith("[") for path in every)


def choices_of(schema: Schema) -> tuple[str, ...]:
    """Where a person's choices are looked for, if that is anywhere."""
    return () if schema.consent is None else (schema.consent,)
