"""Vector's remap language as an allowlist: the listed fields; strongest, only if they match, and
with records sorted."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from vector_vrl import execute_vrl

from benchmarks.leaks.contenders.base import Contender, Spec, by_shape

_ITEMS = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
}
_ROWS = {
    "meeting": "rows = [doc]",
    "webrtc": "rows = values(object(doc[2]) ?? {})",
    "vendor": "rows = array(doc.participants) ?? []",
}
_OTLP = """rows = []
for_each(array(doc.%s) ?? []) -> |_i, resource| {
  for_each(array(resource.%s) ?? []) -> |_i, scope| {
    for_each(array(scope.%s) ?? []) -> |_i, item| {
      row = {}
      for_each(array(item%s.attributes) ?? []) -> |_i, one| {
        row = set!(row, [string(one.key) ?? ""], one.value.stringValue)
      }
      rows = push(rows, row)
    }
  }
}"""


def _rows(shape: str) -> str:
    if shape == "metrics":
        points = _OTLP % ("resourceMetrics", "scopeMetrics", "metrics", "")
        inner = "for_each(array(item.gauge.dataPoints) ?? []) -> |_i, item| {\n      row = {}"
        return points.replace("row = {}", inner, 1).replace(
            "      rows = push(rows, row)\n", "      rows = push(rows, row)\n      }\n"
        )
    return _ROWS.get(shape) or _OTLP % (*_ITEMS[shape], "")


def _check(field: dict[str, Any]) -> str:
    if "values" in field:
        return f"includes({json.dumps(field['values'], ensure_ascii=False)}, v)"
    if "pattern" in field:
        return f"match(string(v) ?? \"\", r'^(?:{field['pattern']})$')"
    return '(is_ipv4(string(v) ?? "") || is_ipv6(string(v) ?? ""))'


def program(shape: str, fields: dict[str, dict[str, Any]], *, checks: bool) -> str:
    """Return the program for a shape."""
    steps = []
    for name, field in fields.items():
        test = f" && {_check(field)}" if checks else ""
        steps.append("  found = null")
        for path in field["paths"]:
            steps.append(f"  v = get(row, {json.dumps(path)}) ?? null")
            steps.append(f"  if found == null && v != null{test} {{ found = v }}")
        steps.append(f"  if found != null {{ out = set!(out, [{json.dumps(name)}], found) }}")
    body = "\n".join(steps)
    none, keep = "[]", "push(kept, out)"
    if checks:  # the members of an object are sorted
        none, keep = "{}", "set!(kept, [encode_json(out)], out)"
    return (
        'doc = parse_json(string(.message) ?? "") ?? {}\n'
        f"{_rows(shape)}\nkept = {none}\nfor_each(rows) -> |_i, row| {{\n  out = {{}}\n{body}\n"
        f"  kept = {keep}\n}}\n"
        + ('. = {"out": encode_json(values(kept))}' if checks else '. = {"out": encode_json(kept)}')
    )


def transformed(source: str, texts: list[str]) -> list[str]:
    """Return what a program leaves of texts, each of which is the message of an event."""
    results = execute_vrl(source, [json.dumps({"message": text}) for text in texts])
    return ["" if "error" in each else str(each.get("out", "")) for each in results]


def make(variant: str, spec: Spec) -> Contender:
    """Make it."""
    checks = variant == "strongest"
    programs = {shape: program(shape, fields, checks=checks) for shape, fields in spec.items()}
    return Contender(
        by_shape(lambda shape, texts: transformed(programs[shape], texts)),
        programs["meeting"],
        version("vector-vrl"),
    )
