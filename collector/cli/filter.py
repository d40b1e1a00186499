"""``collector filter``: events go in, minimised records come out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import orjson
import typer

from collector.cli.hints import hint
from collector.cli.inputs import FilterRun, Form, Merger, input_form, is_plain_file
from collector.cli.options import (
    AsJson,
    SchemaName,
    refuse_other_format,
    unwritable,
    write_file,
)
from collector.cli.stdout import may_be_terminal, write, write_all
from collector.contracts import Tally
from collector.errors import ConfigError, InputError
from collector.extras import require
from collector.schema import Schema, load_schema

_STDIN = Path("-")
_MOST_HINTS = 3
_PARQUET = ".parquet"
Put = Callable[[bytes], int]


def filter_events(  # noqa: PLR0917 - typer reads the options off the parameters
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Files of events; `-`, or no file, is stdin. `.json` is one document (an object or"
            " an array), any other file has one event on each line; `.gz` and `.zst` are unpacked.",
        ),
    ] = None,
    schema: SchemaName = "conferencing",
    form: Annotated[
        Literal["ndjson", "json"] | None,
        typer.Option("--input", help="The form of the input, whatever the names of the files."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write records to this file; as Parquet if its name ends in `.parquet`.",
        ),
    ] = None,
    tally: Annotated[
        Path | None, typer.Option("--tally", help="Also write the counts to this file, as JSON.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge identical records into one with a `count`.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            max=256,
            help="How many processes share an uncompressed NDJSON file. The order is kept.",
        ),
    ] = 1,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="Filter as if today were this day (UTC): it decides which fields have expired.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit 65 if any event is rejected, except those that are not selected."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Filter events: only the fields of the schema come out.

    Records go to stdout, one per line, and counts to stderr: every event is admitted or rejected,
    dropped fields are counted by reason, and content by category.

        collector filter events.ndjson > records.ndjson

        zcat dump.gz | collector filter --schema conferencing-strict --merge

        collector filter meeting.json --schema participants-qos --tally counts.json
    """
    paths = files or [_STDIN]
    as_parquet = output is not None and output.suffix.lower() == _PARQUET
    if output is not None and not as_parquet:
        refuse_other_format(output, ".ndjson")
    if tally is not None:
        refuse_other_format(tally, ".json")
    run = FilterRun(load_schema(schema), as_of.date() if as_of else None, jobs)
    total, hints, is_done = Tally(), list[str](), False
    try:
        with _destination(output, paths, run.schema if as_parquet else None) as put:
            inputs = [(path, form or input_form(path)) for path in paths]
            hints += _filter(run, inputs, merge, put, total)
            is_done = True
    finally:
        if is_done or total.received:  # no counts where nothing could be read
            _print_tally(total, as_json, hints)
        if tally is not None:
            write_file(tally, _json(total.as_dict()))
    if strict and (refused := total.refused):
        raise InputError(
            "E403", f"{refused} of {total.received} events were rejected; the counts say why"
        )


def _filter(
    run: FilterRun, inputs: list[tuple[Path, Form]], merge: bool, put: Put, total: Tally
) -> list[str]:
    """Filter all inputs. Return hints about inputs without an admitted event."""
    hints: list[str] = []
    merger = Merger() if merge else None
    written = 0
    with _progress([path for path, _ in inputs]) as advance:
        for path, form in inputs:
            counts = Tally()
            for records, tally in run.run(path, form):
                total += tally
                counts += tally
                advance(tally.bytes_in)
                written += put(merger.add(records) if merger else records)
                total.bytes_out = written
            found = hint(path, form, counts, run.schema) if len(hints) < _MOST_HINTS else None
            hints += [] if found is None else [found]
        if merger:
            total.bytes_out += put(merger.flush())
    return hints


def _print_tally(tally: Tally, as_json: bool, hints: list[str]) -> None:
    """Print the tally on stderr, and hints: a table on a terminal, one JSON document elsewhere."""
    if as_json or not may_be_terminal():
        sys.stderr.buffer.write(_json(tally.as_dict() | ({"hints": hints} if hints else {})))
        sys.stderr.buffer.flush()
        return
    from collector.cli.console import print_tally  # noqa: PLC0415 - as below

    print_tally(tally, as_json, hints)


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


@contextmanager
def _destination(output: Path | None, inputs: list[Path], schema: Schema | None) -> Iterator[Put]:
    """Return a function that writes records to the output, as Parquet if their schema is given, and
    returns their length in bytes."""
    if output is None or output == _STDIN:
        yield write
        return
    if any(output.exists() and path.exists() and output.samefile(path) for path in inputs):
        raise ConfigError(
            "E122", "the output would overwrite an input; give another file with --output"
        )
    if schema is not None:
        require("Parquet", "parquet", "pyarrow")
    try:
        raw = output.open("wb", buffering=0)
    except OSError as error:
        fault = unwritable(output, error)
    else:
        with raw:
            if schema is None:
                yield partial(write_all, raw)
            else:
                with _parquet(raw, schema) as put:
                    yield put
        return
    raise fault


@contextmanager
def _parquet(raw: IO[bytes], schema: Schema) -> Iterator[Put]:
    """Return a function that writes records to an open file as Parquet; the file is whole at the
    end of the block, whatever ends it."""
    from collector.filter.arrow import ParquetRecords  # noqa: PLC0415 - pyarrow loads slowly

    records = ParquetRecords(_Whole(raw), schema)
    try:
        yield records.write
    finally:
        records.close()


class _Whole:
    """A file whose failed writes raise an error for the user."""

    closed = False

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def __repr__(self) -> str:
        return "<_Whole>"

    def write(self, data: bytes) -> int:
        """Write all data."""
        return write_all(self._raw, data)

    def tell(self) -> int:
        """Return the length of what was written."""
        return self._raw.tell()

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


@contextmanager
def _progress(paths: list[Path]) -> Iterator[Callable[[int], object]]:
    """Show a progress bar over the bytes of the inputs, on a terminal."""
    if not may_be_terminal():
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415 - only a terminal needs Rich, which loads slowly
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from collector.cli.console import err, waits_for_typing  # noqa: PLC0415 - as above

    if any(map(waits_for_typing, paths)) or not err.is_terminal:
        yield lambda _: None
        return
    known = all(is_plain_file(path) for path in paths)
    size = sum(path.stat().st_size for path in paths) if known else None
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("filter", total=size)
        yield lambda done: progress.advance(task, done)
