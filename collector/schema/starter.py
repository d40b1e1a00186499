"""A schema to start from: a commented document with a passing and a failing sample.

The texts are our own; the document as it stands loads without a lint and passes its tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from collector.schema import resources
from collector.schema.policy import DERIVABLE
from collector.schema.scalars import DocumentName

EDITOR_FILE = "collector-schema.json"
"""What the document's first line calls the JSON Schema for editors."""

_MODELINE = f"# yaml-language-server: $schema=./{EDITOR_FILE}\n"

_DOCUMENT = """\
# What is collected, why, for which purpose, and for how long. What is not listed here is not
# collected. Records carry the name and the version. What stands behind # explains, or is an example
# of what may be added; take out what you have read.
language: 1            # the version of this language
schema: NAME
version: 1.0.0         # MAJOR.MINOR.PATCH; raise it when something else is let through
title: Telemetry of NAME
owner: privacy-team    # who answers for it

# Why. Each field names at least one of these purposes.
purposes:
  operations:
    use: essential.service.operations       # a fideslang data use; an editor lists those allowed
    basis: contract                         # the legal basis, Art. 6(1) GDPR
    reason: "Connect clients to a server near them and keep the connection up"
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: "Decide which systems and versions to test on"
    optional: true                          # a person may refuse it; its fields are then not read

# What. A record has these keys in this order, and no other.
fields:
  client.address:
    kind: ip                                # how the value is recognised; a closed set of values
    from: [client.address, ip_address, ip]  # where it may be found; the first that is there decides
    scope: global                           # no private address, nor one of the machine itself
    truncate: {ipv4: 24, ipv6: 48}          # the network is kept, not the host
    category: user.device.ip_address        # a fideslang data category
    purposes: [operations]
    retention: 30d                          # how long it is kept: h, d, w or y
    reason: "The network decides which server is near"
    # required: true                        # an event without it would be rejected
    # source: peer                          # the sidecar would fill it from the sender's address
    # expires: 2030-12-31                   # from this day on it would not be collected

  device.type:
    kind: enum
    from: [device.type, device_type]
    values: [desktop, phone, tablet, browser]
    aliases: {Windows: desktop, Mac: desktop, iPhone: phone}   # what sources call them
    # fold_case: true                       # ASCII letters would match in any case
    # derive: user_agent                    # fill it from the user-agent string where it is missing
    category: user.device
    purposes: [operations, planning]
    retention: 90d
    reason: "Screen layout depends on the form of the device"

  os.name:
    kind: token                             # an entry of a list, or a text of a finite pattern
    from: [os.name, os]
    catalogue: os-names                     # os-names.txt beside this file, or a shipped one
    # pattern: '[A-Z][0-9]{2,8}'            # instead of a catalogue; letters have a limit
    # max_length: 16                        # a promise: a set with longer texts does not load
    category: user.device
    purposes: [planning]
    retention: 90d
    reason: "Which systems to build packages for"

  os.version:
    kind: version
    from: [os.version, os_version]
    parts: 2                                # 17.4.1 becomes 17.4
    maximum: [99, 99]                       # the greatest number of each part
    category: user.device
    purposes: [planning]
    retention: 90d
    reason: "Known faults are tied to versions"

  # The other kinds, with their options:
  #   kind: integer, minimum: 0, maximum: 65536, step: 1024      rounded down to a multiple of step
  #   kind: number, minimum: 0, maximum: 1, step: 0.05           the same, with fractions
  #     unit: ms or text: true                                   reads "54 ms" or "54" as well
  #   kind: boolean
  #   kind: time, precision: minute, within: ±7d                 RFC 3339 or Unix time, truncated
  #   kind: pseudonym, key: env:VARIABLE, rotate: 1d             the only form for identifiers
  # A field outside address, device and system names a sentence for the public, also: quality

# also_collected: {quality: We also measure how well calls run.}

# Further names under which content travels. The built-in ones (audio, video, chat, transcript, …)
# need not be listed. Content is counted and never decoded.
content:
  chat: [backchannel]

# records: participants       # where an event holds a list: one record per element
# user_agent: [headers.ua]    # where the user-agent string is, for fields with `derive`
# consent: preferences        # where an event says which optional purposes a person refuses

# The greatest width of a record that is meant; `collector schema capacity` shows the present one.
max_bits: 78

# Events, and what must come out of them. `keeps` is exact: a field more or less is a failure.
tests:
  - name: chat is never kept
    event: {ip_address: 203.0.113.7, backchannel: [canary], chat: [{text: canary}]}
    keeps: {client.address: 203.0.113.0}
    never_contains: [canary]
  - name: a sentence in a field costs that field only
    event: {device_type: iPhone, os: {version: "meet me at nine"}}
    keeps: {device.type: phone}
    never_contains: [meet]
"""

_SAMPLES = {
    "join.pass.json": {
        "event": "join",
        "ip_address": "203.0.113.7",
        "device": {"type": "iPhone"},
        "os": {"name": "iOS", "version": "17.4.1"},
        "chat": ["this is never decoded"],
    },
    "sentence-in-version.fail.json": {
        "ip_address": "203.0.113.7",
        "os": {"version": "call me at nine"},
    },
}


def is_name(text: str) -> bool:
    """Return whether a schema may be called so."""
    try:
        TypeAdapter(DocumentName).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def starter(name: str) -> tuple[str, dict[str, bytes]]:
    """Write the document of a new schema, and the samples beside it: file name → JSON."""
    samples = {
        file: orjson.dumps(event, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        for file, event in _SAMPLES.items()
    }
    return _MODELINE + _DOCUMENT.replace("NAME", name), samples


PLACES: Mapping[str, tuple[str, ...]] = {
    "client.address": (
        *("client.address", "client.ip", "client.ip_address", "ip", "ip_address", "ip_addr"),
        *("ip_override", "peer.ip", "public.ip", "remote.addr", "remote.ip"),
    ),
    "device.type": ("device.type", "device.category", "device.form_factor"),
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
"""What products call the fields of ``conferencing`` and a user agent, however it is spelled."""
AROUND = frozenset(
    "attributes body client clientinfo context ctx data details device deviceinfo env environment"
    " event extra headers host info meta metadata params payload properties props report request"
    " resource session stats system systeminfo telemetry user".split()
)
"""Objects in which such a name means the same."""

_PROPOSAL = """\
# Proposed by what a sample of events has of names that are known in telemetry. Say why each field
# is needed, or take it out: every FILL IN is yours to write. Names that are not known are not here.
language: 1
schema: NAME
version: 1.0.0
title: Telemetry of NAME
owner: FILL IN who answers for it

purposes:
  operations:
    use: essential.service.operations
    basis: contract
    reason: "FILL IN what these data are for"

"""
_OWN = frozenset(
    "kind from category purposes retention reason required expires source derive also".split()
)
"""Options of a field that are written in this order, or are the author's to decide."""


def propose(
    name: str,
    fields: Mapping[str, tuple[dict[str, Any], list[Any]]],
    records: Any = None,
    user_agent: Sequence[str] = (),
    outside: Collection[str] = (),
) -> str:
    """Write a schema of fields with their paths, after documents of shipped schemas, whose options
    are copied. What a user agent can say is derived where one is found. Purpose, retention, reason
    and the sentence on fields ``outside`` the public one are the author's to write."""
    lines = [_MODELINE, _PROPOSAL.replace("NAME", name)]
    if outside:
        lines.append('also_collected: {measured: "FILL IN what you tell the public of it"}\n\n')
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
    """Copy a schema file that loads, under a new name and as version 1.0.0."""
    text = path.read_text("utf-8")
    lines = (line for line in text.splitlines(keepends=True) if "yaml-language-server" not in line)
    renamed = re.sub(r"^schema:.*", f"schema: {name}", "".join(lines), count=1, flags=re.MULTILINE)
    renamed = re.sub(r"^version:.*", "version: 1.0.0", renamed, count=1, flags=re.MULTILINE)
    return _MODELINE + renamed, {file.name: file.read_bytes() for file in resources.samples(path)}
