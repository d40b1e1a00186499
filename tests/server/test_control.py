"""The sidecar's side of the control socket, where a command meets an error that nobody expects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest

from collector.errors import DeliveryError
from collector.ops.log import EventLog
from collector.server.control import ControlServer
from collector.server.control_client import Status, ask
from tests.server.keeping import Keeping, keeping, run


@pytest.mark.parametrize("error", [OSError(28, "canary"), KeyError("canary"), AssertionError()])
def test_an_unexpected_error_is_answered_and_logged(tmp_path: Path, error: Exception) -> None:
    """By its type and its place alone; the next command is carried out."""
    written, errors = StringIO(), [error, error]

    def checks() -> Mapping[str, str]:
        if errors:
            raise errors.pop()
        return {}

    async def serve(kept: Keeping, stack: ExitStack) -> None:
        components = kept.components
        server = ControlServer(components, checks, stack, EventLog("info", to=written))
        await server.start()
        data = tmp_path / "data"
        for _ in range(2):
            with pytest.raises(DeliveryError) as caught:
                await asyncio.to_thread(ask, data, Status())
            assert caught.value.code == "E519"
        assert await asyncio.to_thread(ask, data, Status()) is not None
        await server.stop(0)

    with keeping(tmp_path) as kept, ExitStack() as stack:
        run(serve(kept, stack))
    (line, *_) = map(json.loads, written.getvalue().splitlines())
    assert (line["event"], line["error"]) == ("unexpected", type(error).__name__)
    assert "canary" not in written.getvalue()
