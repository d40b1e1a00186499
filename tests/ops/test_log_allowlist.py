"""Log events are built anew from an allowlist; members that are left out are counted."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from collector.ops.log_allowlist import (
    LEFT_OUT,
    MESSAGE,
    AdmittedMembers,
    AllowlistProcessor,
    reason,
)


def _knows_size(message: Any, members: dict[str, Any]) -> AdmittedMembers:
    """An allowlist of one member, and of no message."""
    unknown = [MESSAGE, *(members.keys() - {"size"})]
    return AdmittedMembers({"size": members["size"]} if "size" in members else None, unknown)


def test_what_is_kept_is_built_anew() -> None:
    """The event that came in is left as it was, and what goes on is another."""
    event = {"event": "hello", "size": 3, "user": "Ana", "exc_info": True, "stack_info": "a"}
    given = dict(event)
    listed = AllowlistProcessor(_knows_size)
    assert listed(None, "info", event) == {"size": 3}
    assert event == given
    assert listed.left_out() == {"message": 1, "unlisted": 1, "exception": 1, "stack": 1}


def test_an_event_of_which_nothing_is_left_is_dropped() -> None:
    """In the way of structlog; it is counted nevertheless."""
    listed = AllowlistProcessor(_knows_size)
    with pytest.raises(structlog.DropEvent) as caught:
        listed(None, "info", {"event": "hello", "positional_args": ("Ana",)})
    assert listed.left_out() == {"message": 1, "arguments": 1}
    frame = caught.tb.tb_next
    assert frame is not None
    assert "Ana" not in str(frame.tb_frame.f_locals)


def test_names_that_are_no_texts_are_counted() -> None:
    event: Any = {"event": "hello", "size": 1, 7: "Ana", b"user": "Ana"}
    listed = AllowlistProcessor(_knows_size)
    assert listed(None, "info", event) == {"size": 1}
    assert listed.left_out()["unlisted"] == 2


def test_reasons_are_a_closed_list() -> None:
    names = ("event", "positional_args", "exc_info", "exception", "stack_info", "stack", "user")
    assert {reason(name) for name in names} == set(LEFT_OUT)
