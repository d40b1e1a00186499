"""``boolean``: true or false."""

from __future__ import annotations

from tests.support.make_schemas import canonical, field, refuses


def test_values() -> None:
    """Two values, which stay what they are; no other type is read."""
    of = field("boolean")
    assert [canonical(of)(value) for value in (True, False)] == [True, False]
    assert of.size() == 2
    assert of.wire == {bool}
    assert of.column == "INTEGER"


def test_options() -> None:
    """There are none."""
    assert refuses("boolean", values=["yes"]) == "extra_forbidden"
