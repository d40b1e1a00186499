"""Sentry Relay's scrubbing: its defaults, and "everything but" the listed fields, with patterns.

An event is the ``extra`` of a Sentry event, where applications put what they like; attributes of
OTLP are a mapping, as Relay has them itself.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from sentry_relay.processing import convert_datascrubbing_config, pii_strip_event

from benchmarks.leaks.contenders.base import Contender, Spec, each, plain

_DEFAULTS = {
    "scrubData": True,
    "scrubDefaults": True,
    "scrubIpAddresses": False,
    "sensitiveFields": [],
    "excludeFields": [],
}
_PLACES = {
    "meeting": "extra.event.",
    "webrtc": "extra.event.*.*.",
    "vendor": "extra.event.participants.*.",
    "logs": "extra.event.resourceLogs.*.scopeLogs.*.logRecords.*.attributes.",
    "traces": "extra.event.resourceSpans.*.scopeSpans.*.spans.*.attributes.",
    "metrics": "extra.event.resourceMetrics.*.scopeMetrics.*.metrics.*"
    ".gauge.dataPoints.*.attributes.",
}
_ALPHABETS = {
    "client.address": "0-9a-fA-F:.",
    "os.version": "0-9.",
    "os.build_id": "0-9A-Za-z.",
    "os.type": "A-Za-z ",
    "device.type": "A-Za-z0-9_/. ",
}
"""What a value of a listed field is made of. A rule can remove what matches; it cannot demand."""
_USUAL = "A-Za-z0-9 .,()_+/-"
_KNOWN = ["@creditcard", "@email", "@iban", "@mac", "@usssn", "@imei", "@uuid"]


def _selector(shape: str, path: list[str]) -> str:
    quoted = (f"'{key}'" if "." in key else key for key in path)
    return _PLACES[shape] + ".".join(quoted)


def _everything_but(shape: str, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    applications: dict[str, list[str]] = {}
    listed = []
    for name, field in fields.items():
        alphabet = _ALPHABETS.get(name, _USUAL)
        rules[name] = {
            "type": "pattern",
            "pattern": rf"^(.*[^{alphabet}].*|.{{40,}})$",
            "redaction": {"method": "remove"},
        }
        for path in field["paths"]:
            selector = _selector(shape, path)
            listed.append(selector)
            applications[selector] = [name, *_KNOWN]
    others = f"extra.** && ($string || $number || $boolean) && !({' || '.join(listed)})"
    applications[others] = ["@anything:remove"]
    return {"rules": rules, "applications": applications}


def make(variant: str, spec: Spec) -> Contender:
    """Make it."""
    if variant == "documented":
        shared = convert_datascrubbing_config(_DEFAULTS)
        configs, shown = dict.fromkeys(spec, shared), json.dumps(_DEFAULTS)
    else:
        configs = {shape: _everything_but(shape, fields) for shape, fields in spec.items()}
        shown = json.dumps(configs["meeting"])

    def one(shape: str, text: str) -> str:
        event = {"extra": {"event": plain(json.loads(text))}}
        kept = pii_strip_event(configs[shape], event)
        return json.dumps((kept.get("extra") or {}).get("event"), ensure_ascii=False)

    return Contender(each(one), shown, version("sentry-relay"))
