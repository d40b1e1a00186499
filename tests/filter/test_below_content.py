"""Figures below content members: the member is opened only where it is an object."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from collector.filter import Filter
from collector.filter.decode import json as decoding
from tests.support.make_schemas import REST, sample

_FIELDS = {
    "os.type": "kind: enum, values: [linux]",
    "audio.jitter": "kind: number, minimum: 0, maximum: 100, step: 1",
    "chat.count": "kind: integer, minimum: 0, maximum: 100, step: 1",
    "video.rtt": "kind: integer, minimum: 0, maximum: 100, step: 1, unit: ms",
}
_LINUX = {"os": {"type": "linux"}}


_OPTIONAL = "basis: consent, optional: true, reason: Decide which systems to test"
_CONSENT = (
    f"  planning: {{use: analytics.reporting.system.performance, {_OPTIONAL}}}\n"
    "consent: preferences\n"
)


@pytest.fixture(scope="module", params=["", _CONSENT], ids=["plain", "consent"])
def filter_(request: pytest.FixtureRequest) -> Filter:
    """Reads figures below names of content, with and without choices in events."""
    fields = "".join(f"  {name}: {{{kind}, REST}}\n" for name, kind in _FIELDS.items())
    return Filter(sample(fields, request.param))


@pytest.mark.parametrize(
    ("event", "record", "content", "dropped"),
    [
        ({"audio": {"jitter": 3.2, "data": "x"}}, {"audio.jitter": 3.0}, ["audio"], {}),
        ({"audio.jitter": 5}, {"audio.jitter": 5.0}, [], {}),
        ({"audio": "UklGRg", "chat": ["a"]}, {}, ["audio", "chat"], {}),
        ({"chat": {"count": 7, "w0": 104}}, {"chat.count": 7}, ["chat"], {}),
        ({"chat": {"count": "hello"}}, {}, ["chat"], {"chat.count": {"wrong_type": 1}}),
        ({"chat": {"count": {"a": "b"}}}, {}, ["chat"], {"chat.count": {"wrong_type": 1}}),
        ({"video": {"rtt": "54 ms", "data": "x"}}, {"video.rtt": 54}, ["video"], {}),
        ({"video": {"rtt": "hello"}}, {}, ["video"], {"video.rtt": {"invalid_value": 1}}),
        ({"chat": None, "messages": []}, {}, ["chat"], {}),
    ],
)
def test_figures_below_content(
    filter_: Filter,
    event: dict[str, Any],
    record: dict[str, Any],
    content: list[str],
    dropped: dict[str, dict[str, int]],
) -> None:
    event = _LINUX | event
    for admission in (filter_.admit_lines(orjson.dumps(event)), filter_.admit(event)):
        (line,) = admission.encode().splitlines()
        assert orjson.loads(line) == {"schema": "sample/1.0.0", "os.type": "linux", **record}
        assert sorted(admission.tally.content) == content
        assert admission.tally.dropped == dropped


def test_choices_beside_figures_below_content_decide() -> None:
    fields = "".join(
        f"  {name}: {{{kind}, {REST.replace('ops', purpose)}}}\n"
        for purpose, (name, kind) in zip(
            ("ops", "planning", "ops", "ops"), _FIELDS.items(), strict=True
        )
    )
    filter_ = Filter(sample(fields, _CONSENT))
    event = {"audio": {"jitter": 3.2}, "chat": {"count": 7}}
    for choices, kept in (({}, ["audio.jitter", "chat.count"]), (["planning"], ["chat.count"])):
        chosen = event | {"preferences": choices}
        for admission in (filter_.admit(orjson.dumps(chosen)), filter_.admit(chosen)):
            assert [sorted(record) for record in admission.records] == [[*kept, "schema"]]


@pytest.mark.parametrize("other", ["canary", 7, True, [], ["canary"], [{"count": 1}]])
def test_a_content_member_that_is_no_object_changes_nothing(filter_: Filter, other: Any) -> None:
    """Noninterference: the record is that of any other such value."""
    outcomes = {
        filter_.admit_lines(orjson.dumps(_LINUX | {"chat": value})).encode()
        for value in (other, "another")
    }
    assert len(outcomes) == 1


@pytest.mark.parametrize("said", ["see you at nine", "54 ms after", "9" * 40, "\u2028", '"', "5\n"])
def test_a_text_below_content_that_is_no_number_is_not_decoded(
    filter_: Filter, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are compared with the grammar; nothing else of it is looked at."""
    decoded = list[bytes]()

    def noted(raw: Any) -> Any:
        decoded.append(bytes(raw))
        return orjson.loads(raw)

    monkeypatch.setitem(decoding._DECODERS, str, noted)
    for text in (orjson.dumps(said), b'"\\u0035\\u0034 ms"'):
        filter_.admit_lines(b'{"os": {"type": "linux"}, "video": {"rtt": %b}}' % text)
    assert decoded == [b'"linux"', b'"linux"', b'"\\u0035\\u0034 ms"']
