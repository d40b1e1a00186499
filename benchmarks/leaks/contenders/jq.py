"""jq: a projection; and one that tests each value against a regular expression or a list, and sorts
records."""

from __future__ import annotations

import json
import subprocess
from tempfile import NamedTemporaryFile
from typing import Any

from benchmarks.leaks.contenders.base import Contender, Spec, by_shape

_ATTRIBUTES = "[.attributes[]? | {(.key): .value.stringValue}] | add"
_ROWS = {
    "meeting": ".",
    "webrtc": ".[2][]",
    "vendor": ".participants[]",
    "logs": f".resourceLogs[].scopeLogs[].logRecords[] | {_ATTRIBUTES}",
    "traces": f".resourceSpans[].scopeSpans[].spans[] | {_ATTRIBUTES}",
    "metrics": f".resourceMetrics[].scopeMetrics[].metrics[].gauge.dataPoints[] | {_ATTRIBUTES}",
}
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = "[0-9a-fA-F]{1,4}"
_ADDRESS = (
    rf"{_OCTET}(\.{_OCTET}){{3}}|({_GROUP}:){{7}}{_GROUP}"
    rf"|(?!.*::.*::)(?=.*::)(?!:[^:])(?!.*[^:]:\z)({_GROUP})?(:({_GROUP})?){{2,7}}"
)


def _check(name: str, field: dict[str, Any]) -> str:
    """Return a test of a value; lists are objects, as jq looks these up and goes through lists."""
    if "values" in field:
        return f'(type == "string") and (. as $value | $lists[0][{json.dumps(name)}] | has($value))'
    pattern = json.dumps(f"^(?:{field.get('pattern', _ADDRESS)})\\z")
    return f'(type == "string") and test({pattern})'


def program(shape: str, fields: dict[str, dict[str, Any]], *, checks: bool) -> str:
    """Return the program for a shape, which gives a list of records for each line."""
    members = []
    for name, field in fields.items():
        paths = ", ".join(f"getpath({json.dumps(path)})?" for path in field["paths"])
        test = f" and ({_check(name, field)})" if checks else ""
        members.append(f"{json.dumps(name)}: (first(({paths}) | select(. != null{test})) // null)")
    record = f"{{{', '.join(members)}}} | with_entries(select(.value != null))"
    sort = " | sort" if checks else ""
    return f"try ([{_ROWS[shape]} | {record}]{sort}) catch []"


def make(variant: str, spec: Spec) -> Contender:
    """Make it."""
    checks = variant == "strongest"
    programs = {shape: program(shape, fields, checks=checks) for shape, fields in spec.items()}

    def run(shape: str, texts: list[str]) -> list[str]:
        lists = {
            name: dict.fromkeys(field["values"], 1)
            for name, field in spec[shape].items()
            if "values" in field
        }
        with NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(lists, file)
            file.flush()
            command = ["jq", "-c", "--slurpfile", "lists", file.name, programs[shape]]
            given = "\n".join(texts).encode()
            done = subprocess.run(command, input=given, capture_output=True, check=True)
        return done.stdout.decode().splitlines()

    try:
        version = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ImportError("jq", name="jq") from error
    return Contender(by_shape(run), programs["meeting"], version.stdout.strip())
