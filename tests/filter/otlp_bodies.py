"""Strategies for bodies of OTLP around the fields of a schema."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from collector import Schema
from collector.contracts import Signal
from collector.testing._events import cached_per_schema
from tests.filter.otlp_reference import REQUESTS, key_value, scopes
from tests.filter.test_laws import NOW, changed
from tests.strategies import events

Pairs = list[tuple[str, Any]]
SIGNALS: tuple[Signal, ...] = ("logs", "traces", "metrics")
KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


@cached_per_schema
def pairs(schema: Schema, now: datetime) -> st.SearchStrategy[Pairs]:
    """Attributes: what events of the schema hold, in any order, some of the names twice."""
    asked = (way for way in schema.records or () if not isinstance(way, str))
    itself = tuple(way.model_copy(update={"path": "."}) for way in asked)
    single = changed(schema, schema.fields, records=itself or None)
    event = events(single, plain=True, now=now).map(lambda event: list(event.items()))
    odd: Pairs = [("", None), ("blob", b"\x00\xff"), ("os", b"linux"), ("chat", {})]
    more = st.lists(st.sampled_from(odd), max_size=1)
    return st.one_of(
        st.just([]),
        event,
        event,
        st.builds(lambda *parts: [*chain(*parts)], event, event, more).flatmap(st.permutations),
    )


@st.composite
def bodies(draw: st.DrawFn, schema: Schema, signal: Signal) -> Any:
    """A request of the official classes, with up to three resources, scopes and items each."""
    known = draw(st.lists(pairs(schema, NOW), min_size=1, max_size=4))
    some = st.sampled_from(known)
    request: Any = REQUESTS[signal]()
    ((_, resources),) = [(f.name, getattr(request, f.name)) for f in request.DESCRIPTOR.fields]
    for _ in range(draw(st.integers(0, 2))):
        resource = resources.add()
        fill(resource.resource.attributes, draw(some))
        for _ in range(draw(st.integers(0, 2))):
            scope = scopes(resource).add()
            fill(scope.scope.attributes, draw(st.just([]) | some))
            for _ in range(draw(st.integers(0, 4))):
                fill(item(draw, scope).attributes, draw(some))
    return request


def item(draw: st.DrawFn, scope: Any) -> Any:
    """A new item of a scope, with members around it that no schema reads."""
    if hasattr(scope, "log_records"):
        record = scope.log_records.add(time_unix_nano=1, severity_text="INFO", event_name="os.type")
        if draw(st.booleans()):
            record.body.CopyFrom(key_value(("", draw(st.sampled_from(BODIES)))).value)
        return record
    if hasattr(scope, "spans"):
        span = scope.spans.add(name="os.type", trace_id=b"linux")
        span.events.add(name="os.type").attributes.append(key_value(("os.type", "linux")))
        span.links.add().attributes.append(key_value(("os.type", "linux")))
        return span
    metric = scope.metrics.add(name="os.type", unit="linux")
    return getattr(metric, draw(st.sampled_from(KINDS))).data_points.add()


BODIES = ("what was said", None, "", 1, ["a", {"b": [None]}], {"os.type": "linux"}, b"\xff")


def fill(attributes: Any, listed: Pairs) -> None:
    attributes.extend(map(key_value, listed))
