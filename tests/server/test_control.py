"""The sidecar's side of the control socket: people whose requests wait together, and a command
that meets an error that nobody expects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest

from collector.contracts import Removal, Request
from collector.errors import CollectorError, DeliveryError
from collector.filter import Filter
from collector.filter.redaction import Rule
from collector.intake import Acceptor
from collector.server import control
from collector.server.control import ControlServer
from collector.server.control_client import Erase, Object, Status, ask
from collector.sinks.sink import ErasableSink
from tests.ops.logs import log_to
from tests.server.keeping import Keeping, keeping, run
from tests.sidecar.erasing import WINDOW, address, addresses_stored, erasure, event_of, left
from tests.support.calling import accepted
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import entries_of
from tests.support.rows import for_each


@for_each("error", [OSError(28, "canary"), KeyError("canary"), AssertionError()])
def test_an_unexpected_error_is_answered_and_logged(tmp_path: Path, error: Exception) -> None:
    written, errors = StringIO(), [error, error]

    def checks() -> Mapping[str, str]:
        if errors:
            raise errors.pop()
        return {}

    async def serve(kept: Keeping, stack: ExitStack) -> None:
        components = kept.components
        server = ControlServer(components, checks, stack, log_to(written))
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


_PEOPLE = 5


@pytest.mark.parametrize("fails", ["never", "together", "one", "unexpected"])
def test_people_who_wait_are_erased_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """In one pass over each sink, each with a count and an entry of their own. Where that fails,
    each by themselves: nobody waits for what concerns another."""
    passes = list[int]()
    refused = address(3)

    def watched(sink: ErasableSink) -> None:
        rewrite = sink.rewrite

        def counted(rules: Sequence[Rule]) -> Sequence[Removal]:
            passes.append(len(rules))
            is_refused = fails == "one" and any(
                each.may_concern(f'"{refused}"'.encode()) for each in rules
            )
            if fails == "unexpected" and len(rules) > 1:
                raise ValueError("canary")
            if is_refused or (fails == "together" and len(rules) > 1):
                raise DeliveryError("E503", "the file does not take it now")
            return rewrite(rules)

        monkeypatch.setattr(sink, "rewrite", counted)

    async def serve(kept: Keeping, stack: ExitStack) -> None:
        components, loop = kept.components, asyncio.get_running_loop()
        pool = stack.enter_context(ThreadPoolExecutor(_PEOPLE + 1))
        accepting = Acceptor([Filter(schema) for schema in components.schemas], components.spool)
        events = b"".join(event_of(address(number)) for number in range(1, _PEOPLE + 3))
        body = events.replace(b'"os": {', b'"os": {"name": "Ubuntu", ')
        await accepted(accepting.accept, Request("ndjson", body))
        components.delivery.start()
        await asyncio.to_thread(wait_until, lambda: not components.spool.state().batches)
        (sink,) = components.sinks.values()
        assert isinstance(sink, ErasableSink)
        watched(sink)
        server = ControlServer(components, dict, stack, log_to(StringIO()))
        await server.start()
        commands: list[Erase | Object] = [
            *(erasure(address(number)) for number in range(1, _PEOPLE)),
            Object("client.address", address(_PEOPLE), *WINDOW, 20),
            Erase("os.type", "linux", *WINDOW, 20),
        ]
        async with server.lock:  # another command is carried out
            asked = [loop.run_in_executor(pool, _asked, data, each) for each in commands]
            while len(server._waiting) < len(commands):
                await asyncio.sleep(0.01)
        answers.extend(await asyncio.gather(*asked))
        await server.stop(0)
        accepting.close()

    data, answers = tmp_path / "data", list[Any]()
    with keeping(tmp_path) as kept, ExitStack() as stack:
        run(serve(kept, stack))
    *removed, wrong = answers
    assert wrong == "E404"
    codes = ["E503" if fails == "one" and number == 3 else 1 for number in range(1, _PEOPLE + 1)]
    assert removed == codes
    assert passes == ([_PEOPLE] if fails == "never" else [_PEOPLE, *[1] * _PEOPLE])
    others = {address(number) for number in (_PEOPLE + 1, _PEOPLE + 2)}
    kept_people = others | ({refused} if fails == "one" else set())
    kept_people |= {address(_PEOPLE)}  # with what is not optional
    assert {*addresses_stored(data)} == kept_people
    assert left(data, *map(address, range(1, _PEOPLE + 1))) == kept_people - others
    entries = entries_of(data / "spool.db", "erasure", "amendment")
    assert len(entries) == _PEOPLE
    assert [each.kind for each in entries].count("amendment") == 1
    assert sum(int(each.fact("rows") or 0) for each in entries) == _PEOPLE - (fails == "one")


def test_a_sink_that_takes_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(control, "monotonic", lambda: monotonic() + passed[0])
    started, goes_on = Event(), Event()

    def stay() -> None:
        started.set()
        goes_on.wait(WAIT_SECONDS)

    async def serve(kept: Keeping, stack: ExitStack) -> None:
        components = kept.components
        accepting = Acceptor([Filter(schema) for schema in components.schemas], components.spool)
        await accepted(accepting.accept, Request("ndjson", event_of(address(1))))
        components.delivery.start()
        await asyncio.to_thread(wait_until, lambda: not components.spool.state().batches)
        ((name, sink),) = components.sinks.items()
        assert isinstance(sink, ErasableSink)
        rewrite = sink.rewrite

        def slow(rules: Sequence[Rule]) -> list[Removal]:
            passed[0] += 2 * control._BUSY_SECONDS
            sleep(3 * control._LOOK_SECONDS)
            return rewrite(rules)

        monkeypatch.setattr(sink, "rewrite", slow)
        server = ControlServer(components, dict, stack, log_to(StringIO()))
        await server.start()
        command = Erase("client.address", address(1), *WINDOW, 0)
        answers.append(await asyncio.to_thread(_asked, data, command))
        components.delivery.submit(name, stay)
        await asyncio.to_thread(started.wait)
        asked = asyncio.create_task(asyncio.to_thread(_asked, data, command))
        while not asked.done():
            passed[0] += control._BUSY_SECONDS
            await asyncio.sleep(0.1)
        answers.append(await asked)
        goes_on.set()
        await server.stop(0)
        accepting.close()

    data, answers = tmp_path / "data", list[Any]()
    with keeping(tmp_path) as kept, ExitStack() as stack:
        run(serve(kept, stack))
    assert answers == [1, "E519"]


def _asked(data: Path, command: Erase | Object) -> Any:
    """The number of records, or the code of the error."""
    try:
        answer = ask(data, command)
    except CollectorError as error:
        return error.code
    assert answer is not None
    assert answer["removed"]["is_swept"]
    return sum(answer["removed"]["sinks"].values())
