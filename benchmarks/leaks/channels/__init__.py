"""What a sender can spell beside the fields of a record, measured on a running sidecar.

Each channel has a sentence, the bits that its alphabet in this measurement has, and those that a
reader decoded. ``places`` has where each is read, and finds a place that no channel names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.figures import say
from benchmarks.leaks.channels import orders, records, requests
from benchmarks.leaks.channels.base import (
    JSON,
    NDJSON,
    OTHER_SCHEMA,
    SCHEMA,
    Channel,
    Measured,
    lines,
    send_records,
)
from benchmarks.leaks.events import SHAPES
from benchmarks.leaks.locations import BACKEND, LAKE, WAREHOUSE, opened
from benchmarks.leaks.places import Places, faults, observed
from benchmarks.leaks.sidecar import Sidecar, running
from benchmarks.leaks.spelling import Speller, event
from benchmarks.leaks.values import values_of
from benchmarks.leaks.wire import export
from collector import load_schema

__all__ = ["CHANNELS", "Channel", "Measured", "measure", "of_channel", "unnamed"]

CHANNELS: tuple[Channel, ...] = (*records.CHANNELS, *requests.CHANNELS, *orders.CHANNELS)
"""All channels beside the record."""
_AT_ONCE = 2
_SEVERAL = {"COLLECTOR__SCHEMAS": f"{SCHEMA},{OTHER_SCHEMA}"}


def of_channel(channel: Channel, folder: Path, random: Random) -> tuple[float, float] | None:
    """Measure a channel on a sidecar in a folder; ``None`` if what it needs is not installed."""
    with opened((channel.needs,), folder) as locations:
        if channel.needs and not locations.environ:
            return None
        more = _SEVERAL if channel.name == "schemas" else {}
        with running(folder, SCHEMA, more=more, locations=locations) as sidecar:
            return channel.measure(sidecar, random)


def measure(seed: int, *, quick: bool) -> Iterator[Measured]:
    """Measure each channel on a sidecar of its own, two at a time."""

    def measured(channel: Channel) -> Measured:
        found = None
        if not (quick and channel.name in requests.SLOW):
            say(f"leaks: channel {channel.name}")
            with TemporaryDirectory() as folder:
                found = of_channel(channel, Path(folder), Random(f"{seed} {channel.name}"))
        offered, delivered = found or (1.0, None)
        return Measured(channel, offered, delivered)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(measured, CHANNELS)


def _send_refused(sidecar: Sidecar) -> None:
    """Send requests that are refused: a reader may learn of them, too."""
    foreign = lines([{"schema": "none/1.0.0", "os.type": "linux"}])
    for path, kind, body in (
        ("/v1/none", JSON, b"{}"),
        ("/v1/events?schema=none", JSON, b"{}"),
        ("/v1/events", "text/none", b"{}"),
        ("/v1/logs", JSON, b"{"),
        ("/v1/traces", "application/x-protobuf", b"\xff"),
        ("/v1/records", NDJSON, foreign),
    ):
        sidecar.post_slowly(path, kind, body, 0.0)


def _send(sidecar: Sidecar, random: Random) -> None:
    """Send a message over every way in, and a second schema's."""
    schema = load_schema(SCHEMA)
    speller = Speller(values_of(schema))
    spelled = [speller.spell(random.randrange(speller.codes)) for _ in range(20)]
    odd = ['{"os.version":7,"audio":1}', "{", "7"][: random.randint(1, 3)]
    text = "\n".join([*event(schema, spelled), *odd])
    sidecar.post("/v1/events", NDJSON, text.encode())
    sidecar.post("/v1/events", JSON, text.split("\n")[0].encode())
    sidecar.post(f"/v1/events?schema={OTHER_SCHEMA}", NDJSON, text.encode())
    items = export(SHAPES["logs"].wrap(spelled[:2] * random.randint(2, 9)))
    sidecar.post("/v1/logs", "application/x-protobuf", items)
    sidecar.call("logs", items)
    send_records(sidecar, [{"schema": schema.id} | record for record in spelled[:3]])
    _send_refused(sidecar)


def unnamed(random: Random, command: Sequence[str] | None = None) -> list[str]:
    """Send different messages to two sidecars that have two schemas and deliver to every type of
    sinks; return what is wrong with their places."""

    def places(own: Random) -> Places:
        with (
            TemporaryDirectory() as folder,
            opened((LAKE, BACKEND, WAREHOUSE), Path(folder)) as locations,
            running(Path(folder), SCHEMA, command, more=_SEVERAL, locations=locations) as sidecar,
        ):
            with sidecar.held():
                _send(sidecar, own)
                waiting = observed(sidecar)
            sidecar.delivered()
            locations.files()
            return waiting | observed(sidecar)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        first, second = pool.map(places, [Random(random.random()) for _ in range(2)])
    return list(faults(first, second))
