"""A schema to start from: a copy of another one, or a proposal of fields with their paths."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from collector.schema import resources
from collector.schema.policy import DERIVABLE
from collector.schema.scalars import DocumentName

EDITOR_FILE = "collector-schema.json"
"""The name of the editors' JSON Schema in the document's first line."""

_MODELINE = f"# yaml-language-server: $schema=./{EDITOR_FILE}\n"


def is_name(text: str) -> bool:
    """Return whether a schema may have this name."""
    try:
        TypeAdapter(DocumentName).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


PLACES: Mapping[str, tuple[str, ...]] = {
    "client.address": (
        *("client.address", "client.ip", "client.ip_address", "ip", "ip_address", "ip_addr"),
        *("ip_override", "peer.ip", "public.ip", "remote.addr", "remote.ip"),
    ),
    "device.type": ("device.type", "device", "device.category", "device.form_factor"),
    "device.manufacturer": (
        *("device.manufacturer", "device.brand", "device.vendor", "manufacturer"),
    ),
    "device.model.identifier": (
        *("device.model.identifier", "device.model.code", "device.model", "model.code", "model"),
    ),
    "device.model.name": ("device.model.name", "device.model", "model.name", "model"),
    "os.type": ("os.type", "os.family", "os.name", "os", "platform", "operating_system"),
    "os.name": ("os.name", "os", "platform", "operating_system", "operating_system.name"),
    "os.version": (
        *("os.version", "operating_system.version", "platform.version", "system.version"),
        *("android.version", "ios.version"),
    ),
    "os.build_id": ("os.build_id", "os.build", "build.id", "system.build"),
    "user_agent": ("user_agent", "user_agent.original", "ua"),
}
"""Products' names for the fields of ``conferencing`` and for a user agent, in any spelling."""
AROUND = frozenset(
    "attendee attributes body client clientinfo context ctx data details device deviceinfo endpoint"
    " env environment event extra headers host info member meta metadata object params participant"
    " payload properties props report request resource session stats system systeminfo telemetry"
    " user".split()
)
"""Objects in which such a name has the same meaning."""

_PROPOSAL = """\
# Proposed from a sample of events: the names in it that are common in telemetry. Other names are
# not listed. Say why each field is needed, or delete it: replace every FILL IN with your words.
language: 1
schema: NAME
version: 1.0.0
title: Telemetry of NAME
owner: FILL IN who is responsible for it

purposes:
  operations:
    use: essential.service.operations
    basis: contract
    reason: "FILL IN what these data are for"

"""
_OWN = frozenset(
    "kind from category purposes retention reason required expires source derive also".split()
)
"""Options of a field that are written in a fixed order, or that the author decides."""


def propose(
    name: str,
    fields: Mapping[str, tuple[dict[str, Any], list[Any]]],
    records: Any = None,
    user_agent: Sequence[str] = (),
    outside: Collection[str] = (),
) -> str:
    """Write a schema of fields with their paths, with options copied from shipped schemas. If there
    is a user agent, fields are derived from it. The author has to write purpose, retention, reason
    and the sentence on fields ``outside`` the public one."""
    lines = [_MODELINE, _PROPOSAL.replace("NAME", name)]
    if outside:
        lines.append('also_collected: {measured: "FILL IN what you tell the public about it"}\n\n')
    if records is not None:
        lines.append(f"records: {flow(records)}\n\n")
    if user_agent:
        lines.append(f"user_agent: {flow(list(user_agent))}\n\n")
    lines.append("fields:\n")
    for field, (options, paths) in fields.items():
        written = {
            "kind": options["kind"],
            **({"from": paths} if paths else {}),
            **({"derive": "user_agent"} if user_agent and field in DERIVABLE else {}),
            **{key: value for key, value in options.items() if key not in _OWN},
            **({"also": "measured"} if field in outside else {}),
            "category": options["category"],
            "purposes": ["operations"],
            "retention": options["retention"],
            "reason": f"FILL IN why {field} is needed",
        }
        lines.append(f"  {field}:\n")
        lines += (f"    {key}: {flow(value)}\n" for key, value in written.items())
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def flow(value: Any) -> str:
    """Write a value on one line; JSON is YAML, and so is a plain word."""
    is_word = isinstance(value, str) and re.fullmatch("[a-z][a-z_.-]*|[0-9]+[hdwy]", value)
    is_plain = is_word and value not in ("true", "false", "null")
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def copy(name: str, path: Path) -> tuple[str, dict[str, bytes]]:
    """Copy a schema file that loads, under a new name and as version 1.0.0, with the samples beside
    it: file name → JSON."""
    text = path.read_text("utf-8").replace("Telemetry of NAME", f"Telemetry of {name}")
    lines = (line for line in text.splitlines(keepends=True) if "yaml-language-server" not in line)
    renamed = "".join(lines)
    for key, value in (("schema", name), ("version", "1.0.0")):
        renamed = re.sub(
            rf"^{key}: *[^ \n#]*", f"{key}: {value}", renamed, count=1, flags=re.MULTILINE
        )
    return _MODELINE + renamed, {file.name: file.read_bytes() for file in resources.samples(path)}
