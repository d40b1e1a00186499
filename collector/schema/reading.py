"""Read a document from a file of YAML; of a shipped schema, without a parser of YAML.

Parsing takes a fifth of the time in which a command starts. So the values of the shipped schemas
are kept as JSON, by the digest of the file that they were parsed from: a file that is changed by a
byte is parsed. ``keep_parsed`` writes them anew; a test compares them.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from collector.schema import resources
from collector.schema.source import Source

_MAX_BYTES = 256 << 10


def read(path: Path, file: str) -> Source:
    """Read a schema file. ``file`` is how faults call it."""
    source = Source(file)
    try:
        source.directory = path.resolve().parent
        with path.open("rb") as handle:
            data = handle.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        source.report((), "E101", "the file is not found; check the path")
        return source
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the path
        source.report((), "E101", "the file cannot be read; check the path and its permissions")
        return source
    is_shipped = source.directory == resources.shipped().resolve()
    return bytes_source(data, source, is_shipped=is_shipped)


def bytes_source(
    data: bytes, source: Source, *, is_shipped: bool = False, most: int = _MAX_BYTES
) -> Source:
    """Fill a source from a file of at most so many bytes."""
    known = _parsed().get(sha256(data).hexdigest()) if is_shipped else None
    if known is not None:
        source.value = known["value"]
        for places in ("places", "values"):
            found = {tuple(loc): (line, column) for line, column, *loc in known["at"][places]}
            setattr(source, places, found)
        return source
    if len(data) > most:
        source.report((), "E101", f"the file is too large; keep it within {most} bytes")
        return source
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        source.report((), "E101", "the file is not UTF-8 text; save it as UTF-8")
        return source
    from collector.schema.yaml_text import text_source  # noqa: PLC0415 - its library loads slowly

    return text_source(text, source)


@cache
def _text() -> bytes:
    try:
        return resources.parsed().read_bytes()
    except OSError:
        return b"{}"


def _parsed() -> dict[str, Any]:
    """Return the documents that were parsed before, by digest; made anew at each call."""
    try:
        found: dict[str, Any] = orjson.loads(_text())
    except ValueError:  # damaged: what is not known is parsed
        return {}
    return found


def parsed() -> bytes:
    """Parse the shipped schemas, and return them as they are kept. Raises ``ValueError``."""
    from collector.schema.yaml_text import text_source  # noqa: PLC0415 - as above

    found = {}
    for name in resources.names():
        data = (resources.shipped() / f"{name}.yaml").read_bytes()
        source = text_source(data.decode("utf-8-sig"), Source(name))
        if source.faults:
            raise ValueError(f"{name} has faults")
        places = {"places": source.places, "values": source.values}
        at = {n: [[*place, *loc] for loc, place in of.items()] for n, of in places.items()}
        found[sha256(data).hexdigest()] = {"value": source.value, "at": at}
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def keep_parsed() -> None:
    """Parse the shipped schemas and write their file."""
    resources.parsed().write_bytes(parsed())
