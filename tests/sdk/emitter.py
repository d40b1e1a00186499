"""Emit every event of a file, in every form and to every kind of target, and print all that the SDK
reports: logs, warnings, representations, the account. A program for ``test_canaries``.

``python -m tests.sdk.emitter FILE SCHEMA FOLDER PORT``: NDJSON, and the target of its records.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from collector.sdk import Collector

_FOREVER = 60.0
_EACH = 5
"""As many as there are places."""
_AWAY = 4
"""The target where no server listens."""


class Loose(BaseModel):
    """A model that accepts any member."""

    model_config = ConfigDict(extra="allow")


def forms(line: bytes) -> list[Callable[[], object]]:
    """Make an event in every form that can be emitted, and in some that cannot."""
    event = json.loads(line)
    members = event if isinstance(event, dict) else {"ip": event}
    names = [name for name in members if name.isidentifier()]
    return [
        lambda: bytearray(line),
        lambda: line[:-7],
        lambda: event,
        lambda: [event],
        lambda: MappingProxyType(members),
        lambda: Loose.model_construct(**members),
        lambda: make_dataclass("Event", names)(*(members[name] for name in names)),
        lambda: {**members, "device": Loose.model_construct(**members)},
        lambda: {**members, "os": Exception(line)},
        lambda: Exception(line),
    ]


def emit_all(telemetry: Collector, lines: list[bytes], first: int) -> None:
    """Emit every event to one target in some of its forms; other targets get the other forms."""
    for number, line in enumerate(lines):
        for form in forms(line)[(number + first) % _EACH :: _EACH]:
            telemetry.emit(form())
        telemetry.emit(line, peer=line.decode(), user_agent=line.decode())
    print(telemetry, vars(telemetry), telemetry.tally(), telemetry.flush(_FOREVER))
    print(json.dumps(telemetry.tally().as_dict()))


def main(file: str, schema: str, folder: str, port: str) -> None:
    """Run the program."""
    place = Path(folder)
    with (place / "faults").open("w") as faults:
        faulthandler.enable(faults)
        logging.basicConfig(filename=place / "log", level=logging.DEBUG)
        warnings.simplefilter("always")
        lines = Path(file).read_bytes().splitlines()
        files = {
            f"sqlite:///{place}/t.db": None,
            f"ndjson:///{place}/t.ndjson": None,
            f"sqlite:///{place}/s.db": place / "spool",
            f"http://127.0.0.1:{port}": None,
            "http://127.0.0.1:9": place / "away",
        }
        for number, (to, spool) in enumerate(files.items()):
            with Collector(
                schema, to, spool=spool, exit_timeout=0.5 if number == _AWAY else 30, interval=0.01
            ) as telemetry:
                emit_all(telemetry, lines, number)
        for wrong in lines[:9]:
            try:
                Collector(wrong.decode(), wrong.decode(), token=wrong.decode(), mode="on")
            except Exception:  # noqa: BLE001 - whatever it says is searched
                faults.write(traceback.format_exc())
        faulthandler.dump_traceback(faults)
        gc.collect()
        faulthandler.disable()


if __name__ == "__main__":
    main(*sys.argv[1:])
