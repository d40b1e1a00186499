"""Workers that cannot be started, that are slow, and that take the place of others."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest

from collector.config import examine
from collector.contracts import PendingBatch, Tally, to_minute
from collector.errors import ConfigError, DeliveryError
from collector.server import keeper as keeper_
from collector.server.channel import BatchCode, framed
from collector.server.components import Components
from collector.server.keeper import Keeper
from collector.server.preflight import prepare_next
from collector.server.worker_process import WorkerProcess
from tests.ops.logs import log_to
from tests.server.keeping import (
    Keeping,
    Place,
    ScriptedWorker,
    keeping,
    run,
    settings,
    until,
)
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import script

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="what is open is read from /proc"
)

_SCHEMA = """\
schema: {name}
version: 1.0.0
title: An address
owner: tests
purposes:
  service: {{use: essential.service.operations, basis: contract, reason: Run the service}}
fields:
  client.address: {{kind: ip, category: user.device.ip_address, purposes: [service],
    retention: 30d, reason: Run the service}}
"""


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number


class _Unusable(WorkerProcess):
    """A process of a worker with a socket of which the event loop cannot be told: in its place is
    a file, which nothing can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys.close()
        self.keys = cast("socket.socket", _NoSocket())


class _NoSocket:
    def __init__(self) -> None:
        self._file = Path(__file__).open("rb")  # noqa: SIM115 - closed as a socket is

    def fileno(self) -> int:
        return self._file.fileno()

    def setblocking(self, _: bool) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class _NoStream(WorkerProcess):
    """A process of a worker whose channel is no connection."""

    def __init__(self) -> None:
        super().__init__()
        self.channel.close()
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


class _Silent(Place):
    """A worker that never says that it is ready."""

    keeper: Keeper
    was_linked: bool | None = None

    def __init__(self, on_end: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._on_end = on_end

    def end(self) -> None:
        if self.was_linked is None:
            self.was_linked = any(link.process is self for link in self.keeper._links)
            self._on_end()
        super().end()
        self.theirs.close()
        self.their_keys.close()


class _Odd(_Unusable):
    """A process of a worker that fails in a way which nobody expects of the system."""

    def __init__(self) -> None:
        super().__init__()
        self.keys.close()
        self.keys = cast("socket.socket", _OddSocket())


class _OddSocket(_NoSocket):
    def setblocking(self, _: bool) -> None:
        raise RuntimeError


@asynccontextmanager
async def _keeper(
    kept: Keeping, *processes: WorkerProcess, log: StringIO | None = None
) -> AsyncIterator[Keeper]:
    """A keeper with those workers, of which the last comes first; stopped at the end."""
    serving = [
        asyncio.create_task(each.serve()) for each in processes if isinstance(each, ScriptedWorker)
    ]
    with ExitStack() as stack:
        keeper = Keeper(kept.components, log_to(log or StringIO()), stack, [*processes])
        try:
            yield keeper
        finally:
            for process in keeper._processes:
                process.end()
            await keeper.stop(0)
            await asyncio.gather(*serving)


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> Iterator[Keeping]:
    """A keeper's parts."""
    with keeping(tmp_path) as found:
        yield found


@pytest.mark.parametrize("broken", [_Unusable, _NoStream])
def test_a_worker_that_cannot_be_linked(kept: Keeping, broken: type[WorkerProcess]) -> None:
    """It is a fault of the start; of its process, sockets and link nothing is left."""

    async def begin() -> None:
        before = _open_files()
        process = broken()
        async with _keeper(kept, process) as keeper:
            with pytest.raises(ConfigError) as caught:
                await keeper.start()
            assert caught.value.code == "E519"
            assert process.process.poll() is not None
            assert keeper._links == []
        assert _open_files() <= before

    run(begin())


@pytest.mark.parametrize("broken", [_Unusable, _NoStream, _Odd])
def test_others_are_started_after_one_that_cannot_be_linked(
    kept: Keeping, broken: type[WorkerProcess]
) -> None:
    """In the place of a worker that has ended, until one receives."""

    async def replace() -> None:
        first, last = ScriptedWorker(), ScriptedWorker()
        bad = [broken(), broken()]
        async with _keeper(kept, last, *bad, first) as keeper:
            await keeper.start()
            first.theirs.shutdown(socket.SHUT_RDWR)
            await until(lambda: last.heard and keeper.ready == 1)
            assert [link.process for link in keeper._links] == [last]
            assert keeper.replaced == 3
            assert all(process.process.poll() is not None for process in bad)

    run(replace())


def test_a_worker_that_does_not_start_in_time(
    kept: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and another one takes its place: the event loop has let go of its sockets before
    they are closed."""
    limit = partial(monkeypatch.setattr, keeper_, "_START_SECONDS")
    monkeypatch.setattr(keeper_, "_LONGEST_PAUSE", 0.01)

    async def replace() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        first, last = ScriptedWorker(), ScriptedWorker()
        silent = [_Silent(partial(limit, WAIT_SECONDS)), *(_Silent() for _ in range(3))]
        async with _keeper(kept, last, *silent, first) as keeper:
            for place in silent:
                place.keeper = keeper
            await keeper.start()
            limit(0.5)  # until the last of them is ended
            first.theirs.shutdown(socket.SHUT_RDWR)
            await until(lambda: last.heard and keeper.ready == 1)
            assert [link.process for link in keeper._links] == [last]
            assert errors == []
        assert [place.was_linked for place in silent] == [False] * 4

    run(replace())


def test_several_that_cannot_listen(tmp_path: Path) -> None:
    """The first one's fault is raised, and the others' are no unexpected errors."""
    errors: list[Any] = []

    async def begin() -> None:
        workers = [ScriptedWorker(starts=False) for _ in range(3)]
        async with _keeper(kept, *workers) as keeper:
            with pytest.raises(ConfigError) as caught:
                await keeper.start()
            assert caught.value.code == "E207"
            await until(lambda: all(link.started.done() for link in keeper._links))

    async def begin_and_forget() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await begin()
        gc.collect()

    with keeping(tmp_path, {"COLLECTOR__WORKERS": "3"}) as kept:
        run(begin_and_forget())
    assert errors == []


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets are closed."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = _open_files()
    with pytest.raises(FileNotFoundError):
        WorkerProcess()
    assert _open_files() <= before  # other threads may close theirs


def test_one_of_several_processes_that_cannot_be_started() -> None:
    script("""
        import os, resource
        from tests.support.deadline import children
        from collector.server.worker_process import spawned

        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, 4096))
        try:
            with spawned(9):
                raise SystemExit("there was room for all of them")
        except OSError:
            assert children() == set(), children()
    """)


# -- while others take over -----------------------------------------------------------------------


def _schema(folder: Path, name: str) -> dict[str, str]:
    path = folder / f"{name}.yaml"
    path.write_text(_SCHEMA.format(name=name))
    return {"COLLECTOR__SCHEMA": str(path)}


def _following(folder: Path, name: str) -> Components:
    """The components of the same configuration with another schema."""
    return prepare_next(examine(None, settings(folder, _schema(folder, name))))


def _record(components: Components, number: int, code: BatchCode) -> bytes:
    """The message that hands over a record of the schema."""
    (schema,) = components.schemas
    payload = b'{"schema":"%b","client.address":"203.0.113.7"}\n' % schema.id.encode()
    tally = Tally(1, 1, bytes_in=1, bytes_out=len(payload))
    batch = PendingBatch(schema.layout, to_minute(datetime.now(UTC)), payload, tally)
    return framed(code.put(number, None, [batch])) + payload


async def _changed(
    keeper: Keeper,
    following: Components,
    *workers: WorkerProcess,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Have these workers take over, with something that happens until the ledger's entry is
    written."""
    serving = [
        asyncio.create_task(each.serve()) for each in workers if isinstance(each, ScriptedWorker)
    ]
    keeper._processes += workers

    async def commit() -> None:
        if meanwhile is not None:
            await meanwhile()
        keeper._components.use(following)

    try:
        await keeper.change(following, commit)
    except BaseException:
        await asyncio.gather(*serving)
        raise


def test_nothing_is_stored_by_a_plan_that_is_not_in_force(tmp_path: Path) -> None:
    """What a new worker says before is taken after; what those before say until they end is stored
    by their own plan."""
    following = _following(tmp_path, "second")

    async def change() -> None:
        before, after = ScriptedWorker(), ScriptedWorker()
        async with _keeper(kept, before) as keeper:
            await keeper.start()
            old, new = (BatchCode(each.schemas) for each in (kept.components, following))
            first = _record(kept.components, 1, old)

            async def say() -> None:
                await after.say(_record(following, 2, new))
                await before.say(first)
                await until(lambda: before.outcomes)
                assert (before.outcomes, after.outcomes) == ({1: 1}, {})

            await _changed(keeper, following, after, meanwhile=say)
            await until(lambda: after.outcomes)
            assert after.outcomes == {2: 1}
            assert [link.process for link in keeper._links] == [after]

    with keeping(tmp_path, _schema(tmp_path, "first")) as kept:
        run(change())


def test_a_change_that_cannot_be_written(tmp_path: Path) -> None:
    """All is as before, and the next one is made."""
    second = _following(tmp_path, "second")

    async def fail() -> None:
        raise DeliveryError("E506", "not now")

    async def change() -> None:
        worker, unused, last = (ScriptedWorker() for _ in range(3))
        async with _keeper(kept, worker) as keeper:
            await keeper.start()
            code = BatchCode(kept.components.schemas)
            with pytest.raises(DeliveryError):
                await _changed(keeper, second, unused, meanwhile=fail)
            await worker.say(_record(kept.components, 1, code))
            await until(lambda: worker.outcomes)
            await _changed(keeper, second, last)
            await last.say(_record(second, 2, BatchCode(second.schemas)))
            await until(lambda: last.outcomes)
            assert (worker.outcomes, last.outcomes) == ({1: 1}, {2: 1})

    with keeping(tmp_path, _schema(tmp_path, "first")) as kept:
        run(change())


class _Dying(Place):
    """A worker that ends before it has started."""

    was_ended = False

    def __init__(self) -> None:
        super().__init__()
        self.theirs.close()
        self.their_keys.close()

    def end(self) -> None:
        self.was_ended = True
        super().end()


def test_a_worker_that_ends_while_it_starts_for_a_change(tmp_path: Path) -> None:
    """The change fails, and the process is waited for: else the system keeps something of it."""
    second = _following(tmp_path, "second")

    async def change() -> None:
        dying, worker = _Dying(), ScriptedWorker()
        async with _keeper(kept, worker) as keeper:
            await keeper.start()
            with pytest.raises(ConfigError, match="ended while it started"):
                await _changed(keeper, second, dying)
            await until(lambda: dying.was_ended)
            assert [link.process for link in keeper._links] == [worker]

    with keeping(tmp_path, _schema(tmp_path, "first")) as kept:
        run(change())
