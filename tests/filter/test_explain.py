"""Explanations of events: how many are made, and what is said of members that are near a path."""

from __future__ import annotations

import pytest

from collector import Filter, load_schema
from collector.filter import explain as module
from collector.filter.explain import explain

_FILTER = Filter(load_schema("conferencing"), keys=lambda _reference, _period: bytes(32))
_ROUTER = _FILTER.router


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The explanations that are made, whether or not they are given out."""
    found: list[object] = []

    class Counted(module.Explanation):
        def __init__(self, *parts: object, **others: object) -> None:
            super().__init__(*parts, **others)  # type: ignore[arg-type]
            found.append(self)

    monkeypatch.setattr(module, "Explanation", Counted)
    return found


@pytest.mark.parametrize("lines", [True, False])
def test_no_more_are_made_than_asked_for(made: list[object], lines: bool) -> None:
    event = b'{"ip": "203.0.113.7", "device": {"type": "iPhone"}}'
    text = (
        b"\n".join([event, b"{", *[event] * 998]) if lines else b"[%b]" % b",".join([event] * 999)
    )
    assert len(list(explain(_ROUTER, text, lines, 3))) == len(made) == 3
    assert len(list(explain(_ROUTER, text, lines))) in (999, 1000)


def test_what_is_near_a_path() -> None:
    spelled, null, flat = (
        next(explain(_ROUTER, text, lines=True)).paths
        for text in (
            b'{"IP": "203.0.113.7", "Device": 1, "device": {"Type": "iPhone"}}',
            b'{"ip": null, "device": {"type": null}}',
            b'{"device": "iPhone"}',
        )
    )
    assert spelled["ip"] == "`ip` is there in another spelling"
    assert spelled["device.type"] == "`type` is there in another spelling in `device`"
    assert (null["ip"], null["device.type"]) == ("", "`device` is there, without `type`")
    assert flat["device.type"] == "`device` is there, and is no object"


def test_what_is_near_a_path_that_is_withheld() -> None:
    withheld = _FILTER.without(_FILTER.schema.purposes).router
    text = b'{"IP": "203.0.113.7"}'
    assert (
        next(explain(withheld, text, lines=True)).paths
        == next(explain(_ROUTER, text, lines=True)).paths
    )


def test_the_source_is_the_path_that_the_judge_took() -> None:
    for path in ("ip_address", "ip"):
        text = f'{{"{path}": "203.0.113.7"}}'.encode()
        (found,) = explain(_ROUTER, text, lines=False)
        assert found.fields["client.address"].source == path


def test_what_cannot_be_read_is_explained_by_its_reason() -> None:
    for text, reason in ((b'"\xff"', "malformed"), (b"[" * 2000, "too_deep")):
        assert [one.verdict for one in explain(_ROUTER, text, lines=False)] == [reason]


@pytest.mark.parametrize("lines", [True, False])
def test_a_byte_order_mark_is_no_part_of_the_text(lines: bool) -> None:
    text = b'\xef\xbb\xbf{"ip": "203.0.113.7"}'
    (found,) = explain(_ROUTER, text, lines)
    admission = (_FILTER.admit_lines if lines else _FILTER.admit)(text)
    assert (found.verdict, admission.tally.admitted) == ("admitted", 1)


def test_members_of_no_field_are_counted() -> None:
    text = b'{"ip": "::1", "a": 1, "b": {"c": 2}, "device": {"type": "x", "mac": 1}, "chat": [1]}'
    (found,) = explain(_ROUTER, text, lines=False)
    assert (found.unlisted, found.content) == (3, ("chat",))
