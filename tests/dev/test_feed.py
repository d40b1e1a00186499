"""Events for ``collector dev``: they fit whatever schema it is given."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import orjson

from collector.dev import feed
from collector.filter import Filter
from collector.schema import load_schema, resources
from tests.support.rows import for_each


@for_each("name", [*resources.names(), *resources.templates()])
def test_events_have_every_field_of_a_schema(name: str) -> None:
    """Something of each is admitted, and so is the one that is shown for the command line."""
    reference = str(resources.templates().get(name, name))
    schema = load_schema(reference)
    filter_ = Filter(schema, keys=lambda _reference, _period: bytes(32))
    some = [*islice(feed.events(schema, reference), 50)]
    found = filter_.admit(orjson.dumps(some))
    assert all(filter_.admit(orjson.dumps([each])).tally.admitted for each in some)
    assert {key for record in found.records for key in record} >= schema.fields.keys()
    assert filter_.admit(feed.sent(schema)).tally.admitted


def test_events_of_a_map_are_maps(tmp_path: Path) -> None:
    text = (resources.shipped() / "conferencing.yaml").read_text()
    own = tmp_path / "own.yaml"
    own.write_text(text + '\nrecords: "*"\n')
    schema = load_schema(str(own))
    sent = feed.sent(schema)
    assert "*" not in orjson.loads(sent)
    assert Filter(schema).admit(sent).tally.admitted


def test_samples_are_used(tmp_path: Path) -> None:
    schema = tmp_path / "own.yaml"
    text = (resources.shipped() / "conferencing.yaml").read_text()
    schema.write_text(text)
    samples = tmp_path / "own.samples"
    samples.mkdir()
    (samples / "one.pass.json").write_text('[{"ip": "203.0.113.7"}]')
    (samples / "two.fail.json").write_text("{}")
    some = [*islice(feed.events(load_schema(str(schema)), str(schema)), 5)]
    assert {"chat", "device"} <= some[0].keys(), "meetings have more"
