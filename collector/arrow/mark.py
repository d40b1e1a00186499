"""The metadata that marks a Parquet file as ours, and the retentions that it states."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta

MARK = b"collector"
"""The metadata key of the mark, which is a schema's name and version and the file's key."""
_RETENTIONS = b"collector.retentions"
"""The metadata key of the retentions of fields, in seconds."""
_RETENTION = re.compile(r"([^ =\0]+)=([1-9][0-9]{0,9})", re.ASCII).fullmatch
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){2}", re.ASCII).fullmatch
_SECOND = timedelta(seconds=1)


def metadata(mark: bytes, retentions: Mapping[str, timedelta]) -> dict[bytes, bytes]:
    """Return the metadata of a file with that mark and retentions."""
    pairs = (f"{name}={span // _SECOND}" for name, span in retentions.items())
    return {MARK: mark} | ({_RETENTIONS: " ".join(pairs).encode()} if retentions else {})


def stated_retentions(found: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the retention of each field in seconds, from the metadata of a file; empty if the
    metadata does not have our form."""
    text = found.get(_RETENTIONS, b"").decode(errors="replace")
    pairs = [_RETENTION(pair) for pair in text.split(" ")]
    stated = {each[1]: int(each[2]) for each in pairs if each is not None}
    return stated if len(stated) == len(pairs) else {}


def has_own_metadata(found: Mapping[bytes, bytes], key: str, fields: Collection[str]) -> bool:
    """Return whether metadata has exactly what we write for a file with this key and these
    fields."""
    schema, _, stated_key = found.get(MARK, b"").decode(errors="replace").partition(" ")
    name, _, version = schema.partition("/")
    is_marked = stated_key == key and key.startswith(f"{name}/") and _VERSION(version) is not None
    retentions = stated_retentions(found)
    is_stated = retentions.keys() <= {*fields} and bool(retentions) == (_RETENTIONS in found)
    return is_marked and is_stated and found.keys() <= {MARK, _RETENTIONS}
