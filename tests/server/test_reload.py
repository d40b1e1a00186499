"""A reload beside the parts that it changes: files that change while it starts, and what fails."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from threading import get_ident
from typing import Any
from unittest.mock import AsyncMock

import pytest

from collector.config import Loaded, examine
from collector.config.loading import file_stats
from collector.server import reload
from collector.server.components import Components
from collector.server.keeper import Keeper
from collector.server.ledger_notes import LedgerNotes
from collector.server.preflight import prepare
from collector.server.reload import Reloader
from tests.ops.logs import log_to
from tests.server.keeping import ScriptedWorker, run, settings, until


@dataclass
class _Sidecar:
    """The parts of a sidecar with a worker that a test speaks for."""

    loaded: Loaded
    components: Components
    written: StringIO = field(default_factory=StringIO)
    stack: ExitStack = field(default_factory=ExitStack)

    def events(self) -> list[str]:
        """The names of the events in its log."""
        return [json.loads(line)["event"] for line in self.written.getvalue().splitlines()]

    @asynccontextmanager
    async def reloads(self, error: Exception | None = None) -> AsyncIterator[Reloader]:
        """Run it; yield what reloads it."""
        worker, log = ScriptedWorker(), log_to(self.written)
        serving = asyncio.create_task(worker.serve())
        keeper = Keeper(self.components, log, self.stack, [worker])
        notes = LedgerNotes(self.components, log)
        notes.begin()
        try:
            await keeper.start()
            parts = self.loaded, self.components, keeper, notes, log
            yield Reloader(*parts, lock=asyncio.Lock(), renew_admin=AsyncMock(side_effect=error))
        finally:
            await keeper.stop(0)
            await serving


@contextmanager
def _sidecar(folder: Path, text: str = "{}\n", **environ: str) -> Iterator[_Sidecar]:
    """A sidecar, whose configuration has been read."""
    file = folder / "collector.yaml"
    file.write_text(text)
    with ExitStack() as stack:
        loaded = examine(file, settings(folder, environ))
        components = prepare(loaded)
        components.open(stack)
        yield _Sidecar(loaded, components, stack=stack)


@asynccontextmanager
async def _watching(reloader: Reloader) -> AsyncIterator[None]:
    watching = asyncio.create_task(reloader.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def test_a_file_that_changes_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "_WATCH_SECONDS", 0.01)

    async def change(sidecar: _Sidecar) -> None:
        (tmp_path / "collector.yaml").write_text("watch: true\nlimits: {events: 77}\n")
        async with sidecar.reloads() as reloader, _watching(reloader):
            sidecar.stack.enter_context(_more_workers(reloader))
            await until(lambda: "reloaded" in sidecar.events())
            assert sidecar.components.config.limits.events == 77

    with _sidecar(tmp_path, "watch: true\n") as sidecar:
        run(change(sidecar))


def test_files_that_do_not_change_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "_WATCH_SECONDS", 0.01)
    looks = list[int]()
    look = file_stats

    def counted(paths: Any) -> Any:
        looks.append(1)
        return look(paths)

    monkeypatch.setattr(reload, "file_stats", counted)
    monkeypatch.setattr(reload, "examine", None)

    async def wait(sidecar: _Sidecar) -> None:
        async with sidecar.reloads() as reloader, _watching(reloader):
            await until(lambda: len(looks) > 5)
        assert sidecar.events() == []

    with _sidecar(tmp_path, "watch: true\n") as sidecar:
        run(wait(sidecar))


def test_operators_that_cannot_be_served_anew(tmp_path: Path) -> None:
    """The reload is in force all the same, and says so; the error is logged."""

    async def change(sidecar: _Sidecar) -> None:
        file = tmp_path / "collector.yaml"
        async with sidecar.reloads(OSError(24, "no file")) as reloader:
            file.write_text("limits: {body: 1MiB}\n")
            sidecar.stack.enter_context(_more_workers(reloader))
            assert (await reloader.reload("command"))["outcome"] == "reloaded"
            assert sidecar.components.limits.body == 1 << 20
            assert (await reloader.reload("command"))["outcome"] == "unchanged"
            assert sidecar.events().count("unexpected") == 1

    with _sidecar(tmp_path) as sidecar:
        run(change(sidecar))


@contextmanager
def _more_workers(reloader: Reloader) -> Iterator[None]:
    """Let the keeper take a worker that a test speaks for in the place of the first."""
    worker = ScriptedWorker()
    serving = asyncio.get_running_loop().create_task(worker.serve())
    reloader._keeper._processes.append(worker)
    yield
    serving.cancel()


def test_names_are_resolved_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not answer holds up nobody."""
    threads, resolve = set[int](), socket.getaddrinfo

    def seen(*args: Any, **options: Any) -> Any:
        threads.add(get_ident())
        return resolve(*args, **options)

    async def change(sidecar: _Sidecar) -> None:
        async with sidecar.reloads() as reloader:
            monkeypatch.setattr(socket, "getaddrinfo", seen)
            (tmp_path / "collector.yaml").write_text("limits: {events: 77}\n")
            sidecar.stack.enter_context(_more_workers(reloader))
            assert (await reloader.reload("command"))["outcome"] == "reloaded"
        assert get_ident() not in threads

    with _sidecar(tmp_path, COLLECTOR__HTTP__ADDRESS="localhost:0") as sidecar:
        run(change(sidecar))
    assert threads
