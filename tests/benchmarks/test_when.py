"""The benchmark of conditions: real filters, of which one has conditions that decide."""

from __future__ import annotations

from benchmarks import when


def test_conditions_are_measured() -> None:
    """Each form, where the condition holds and where it fails."""
    costs = list(when.measure(1, 20))
    assert {(cost.form, cost.case) for cost in costs} == {
        (form, case) for form in ("lines", "mappings") for case in ("it holds", "it fails")
    }
    assert all(min(*cost.without, *cost.with_when) > 0 for cost in costs)


def test_the_condition_decides() -> None:
    """Where it fails there is no address; without conditions there is."""
    without, conditional = when.filters()
    event = {"ip_address": "203.0.113.7", "os": {"type": "linux"}, "kind": "local"}
    for filter_, kind, has_address in (
        (without, "remote", True),
        (conditional, "local", True),
        (conditional, "remote", False),
    ):
        (record,) = filter_.admit({**event, "kind": kind}).records
        assert ("client.address" in record) == has_address
