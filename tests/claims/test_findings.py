"""What could not be read shows nothing, and is told with what to do."""

from __future__ import annotations

from typing import get_args

import pytest

from collector.claims.findings import unread
from collector.errors import Cause, DeliveryError


@pytest.mark.parametrize("cause", get_args(Cause))
def test_a_sink_that_cannot_be_read(cause: Cause) -> None:
    """It is open, names the sink and the server's code, and never the server's own text."""
    found = unread("lake", DeliveryError("E514", "lake: canary of a text", cause, "HTTP 403"))
    assert (found.is_open, bool(found.advice)) == (True, True)
    assert "`lake`" in found.message
    assert "HTTP 403" in found.message
    assert "canary" not in str(found)
