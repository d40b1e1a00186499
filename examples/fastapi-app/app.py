"""A FastAPI application that counts its visitors' devices, and nothing else of them.

uvicorn app:app --port 8000
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from collector import Collector
from collector.sdk.web import ClientMiddleware, PreferencesApp

telemetry = Collector("web")


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with telemetry:  # delivers what is queued when the application stops
        yield


app = FastAPI(lifespan=_lifespan)
app.add_middleware(ClientMiddleware, telemetry=telemetry)
app.mount("/preferences", PreferencesApp(telemetry))


@app.post("/messages")
async def post_message(request: Request) -> dict[str, int]:
    """Take a message, which telemetry never sees."""
    return {"characters": len(await request.body())}


@app.get("/telemetry")
async def counts() -> dict[str, object]:
    """Say how many requests were counted. No value is in it."""
    return telemetry.tally().as_dict()
