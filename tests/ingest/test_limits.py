"""Limits: their defaults, and what cannot be set."""

from __future__ import annotations

import pytest

from collector.errors import ConfigError
from collector.ingest.limits import MIB, MOST_BODY, Limits


def test_defaults() -> None:
    """They are part of what the sidecar promises."""
    limits = Limits()
    assert (limits.wire, limits.body, limits.ratio) == (4 * MIB, 16 * MIB, 100)
    assert (limits.header_bytes, limits.connections) == (65536, 1000)
    assert (limits.header_seconds, limits.body_seconds) == (5.0, 10.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"wire": 0},
        {"wire": MOST_BODY + 1},
        {"body": MOST_BODY + 1},
        {"body": -1},
        {"ratio": 0},
        {"held": 0},
        {"header_bytes": 0},
        {"header_seconds": 0.0},
        {"body_seconds": -1.0},
        {"idle_seconds": 0.0},
        {"connections": 0},
    ],
    ids=str,
)
def test_what_cannot_be_set(wrong: dict[str, int]) -> None:
    """Nothing below one, no body above 64 MiB."""
    with pytest.raises(ConfigError) as caught:
        Limits(**wrong)
    assert caught.value.code == "E204"


def test_there_is_always_room_for_one_body() -> None:
    """However little all together may hold."""
    assert Limits(body=MOST_BODY, wire=MOST_BODY).room == 2 * MOST_BODY
    assert Limits().room == 64 * MIB
