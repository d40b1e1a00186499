"""Vector's remap language, in process: its own compiler and runtime through ``vector-vrl``."""

from __future__ import annotations

import sys

from benchmarks.contenders import FIELDS, SCHEMA, Contender, Job, Unavailable

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


def _make(lines: list[bytes], _schema: str) -> Job:
    """The program is compiled at each call, which is once per payload; it takes texts."""
    payload = b"\n".join(lines)

    def job() -> bytes:
        rows = execute_vrl(_PROGRAM, payload.decode().split("\n"))
        return "".join([f"{row['record']}\n" for row in rows]).encode()

    return job


VRL = Contender("vrl", "Vector's VRL, in process", "check, alias, count, skip bad lines", _make)
