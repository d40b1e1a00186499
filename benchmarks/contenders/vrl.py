"""Vector's remap language, in process: its own compiler and runtime through ``vector-vrl``."""

from __future__ import annotations

import sys

from benchmarks.contenders.base import (
    FIELDS,
    SCHEMA,
    Contender,
    Outcome,
    Unavailable,
    joined,
    parsed,
)

if sys.version_info < (3, 12):
    raise Unavailable("vector-vrl needs Python 3.12")

from vector_vrl import execute_vrl

# On medium events, in µs: written by `encode_json` in the program 22.2, by orjson 23.0; an object
# with nulls that Python leaves out 22.5, one put together with `if` 24.0.
_PROGRAM = (
    f'. = compact({{"schema": "{SCHEMA}", '
    + ", ".join(f'"{name}": .{name}' for name in FIELDS)
    + '})\n. = {"record": encode_json(.)}'
)


class Vrl:
    """The program is compiled at each call, which is once per payload; it takes texts."""

    name = "vrl"
    title = "Vector's VRL, in process"
    checks_values = False
    does_not = "check, alias, count, skip bad lines"
    schemas = ("conferencing",)

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._payload = joined(lines)

    def run(self) -> bytes:
        events = self._payload.decode().split("\n")
        rows = execute_vrl(_PROGRAM, events)
        return "".join([f"{row['record']}\n" for row in rows]).encode()

    def check(self, output: bytes) -> Outcome:
        return Outcome(parsed(output))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return Vrl()
