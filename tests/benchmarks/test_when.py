"""The benchmark of conditions: real filters, of which one has conditions that decide."""

from __future__ import annotations

from benchmarks import when


def test_conditions_are_measured() -> None:
    """Each form, where the condition holds and where it fails."""
    costs = list(when.measure("small", 1, 20))
    assert {(cost.form, cost.case) for cost in costs} == {
        (form, f"{what}, {case}")
        for form in ("lines", "mappings")
        for what in ("source", "record")
        for case in ("holds", "fails")
    }
    assert all(min(*cost.without, *cost.with_it) > 0 for cost in costs)


def test_the_condition_decides() -> None:
    """Where it fails there is no address, or no record; without conditions there is."""
    without, conditional, selecting = when.filters()
    event = {"ip_address": "203.0.113.7", "os": {"type": "linux"}, "kind": "local"}
    for filter_, kind, kept in (
        (without, "remote", ["client.address", "os.type"]),
        (conditional, "local", ["client.address", "os.type"]),
        (conditional, "remote", ["os.type"]),
        (selecting, "local", ["client.address", "os.type"]),
        (selecting, "remote", None),
    ):
        records = filter_.admit({**event, "kind": kind}).records
        assert [[*record][1:] for record in records] == ([] if kept is None else [kept])
