"""Wait for handlers and pipelines, which answer by a callback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from collector.contracts import Accept, Request, Tally
from collector.ingest.request import Handler, HttpRequest
from collector.ingest.responses import HttpResponse

_Done = Callable[[Tally | BaseException], object]


async def accepted(accept: Accept, request: Request) -> Tally:
    """Return the tally of a request, or raise its error."""
    told: asyncio.Future[Tally | BaseException] = asyncio.get_running_loop().create_future()
    accept(request, told.set_result)
    outcome = await told
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def responded(handler: Handler, request: HttpRequest) -> HttpResponse | None:
    """Return the response to a request."""
    told: asyncio.Future[HttpResponse | None] = asyncio.get_running_loop().create_future()
    handler(request, told.set_result)
    return await told


def accepting(accept: Callable[[Request], Awaitable[Tally]]) -> Accept:
    """Make a pipeline of a coroutine function; each request runs in a task."""
    tasks = set[asyncio.Task[None]]()

    async def run(request: Request, done: _Done) -> None:
        try:
            outcome: Tally | BaseException = await accept(request)
        except Exception as error:  # noqa: BLE001 - a pipeline passes its error on
            outcome = error
        done(outcome)

    def begin(request: Request, done: _Done) -> None:
        work: Coroutine[Any, Any, None] = run(request, done)
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return begin
