"""``collector demo``: run the whole path from events to the embedded store."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from shutil import which
from typing import Annotated, Any

import orjson
import typer

from collector import synthetic
from collector.cli.console import out, print_json, tally_table
from collector.cli.options import AsJson, SchemaName
from collector.contracts import Record, Request, Tally
from collector.errors import ConfigError, file_name
from collector.filter import Filter
from collector.keyring import Keyring
from collector.pipeline import Pipeline
from collector.schema import Schema, load_schema
from collector.sinks.store import FILE_NAME, Store
from collector.sinks.store_file import view_of
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool
from collector.testing import Hit, canaries, scan

_BATCH = 500
_SECONDS = 60.0


def demo(
    data: Annotated[
        Path,
        typer.Option("--data", help="The directory of the demo's store, which each run replaces."),
    ] = Path("collector-demo"),
    schema: SchemaName = "conferencing",
    number: Annotated[int, typer.Option("--events", min=1, help="How many events.")] = 5000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same meetings.")] = 2026,
    as_json: AsJson = False,
) -> None:
    """Send synthetic meetings through filter and spool into a store, then search the files for
    content. Exit 1 if any is found.

    Every event has audio, video, chat, a transcript and files, and each of them holds canaries:
    random texts that must never be stored. Every byte that was written is then searched for the
    canaries, also in encoded and compressed form.
    """
    loaded = load_schema(schema)
    planted = canaries(20)
    path = _remove_earlier_demo(data)
    tally, sample, stored = collect(loaded, path, number, seed, planted)
    hits = scan([data], planted)
    works = _finds_a_plant(planted)
    size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    if as_json:
        print_json(
            {
                "tally": tally.as_dict(),
                "store": str(path),
                "stored": stored,
                "record": sample,
                "canaries": len(planted),
                "scanned_bytes": size,
                "found": len(hits),
                "scan_finds_a_plant": works,
            }
        )
    else:
        _print(loaded, tally, sample, path, stored)
        _print_scan(size, hits, len(planted), works)
    raise typer.Exit(1 if hits or not works else 0)


def _remove_earlier_demo(data: Path) -> Path:
    """Remove the files of an earlier demo, and nothing else; return the path of the new store."""
    path = data / FILE_NAME
    try:
        for name, suffix in product((FILE_NAME, SPOOL_NAME), ("", "-wal", "-shm")):
            path.with_name(name + suffix).unlink(missing_ok=True)
    except NotADirectoryError:
        message = f"{file_name(data)} is a file; name a directory with `--data`"
    except OSError:
        message = f"the earlier demo's store in {file_name(data)} cannot be deleted"
    else:
        return path
    raise ConfigError("E203", message)


def collect(
    schema: Schema, path: Path, number: int, seed: int, planted: Sequence[str]
) -> tuple[Tally, Record | None, int]:
    """Run meetings into the store; return the counts, a record, and the stored records' number."""
    chosen, total, sample = Filter(schema, keys=Keyring()), Tally(), None
    meetings = synthetic.events(number, seed, planted)
    with Store(path, schema) as store:
        spool = Spool(path.with_name(SPOOL_NAME), sinks=["store"])
        pipeline = Pipeline(chosen, spool, {"store": store})
        pipeline.start()
        try:
            while batch := list(islice(meetings, _BATCH)):
                body = b"\n".join(map(orjson.dumps, batch))
                total += pipeline.accept_now(Request("ndjson", body))
                sample = sample or next(iter(chosen.admit_lines(body).records), None)
        finally:
            pipeline.close(_SECONDS)
            spool.close()
        return total, sample, store.count()


def _finds_a_plant(planted: Sequence[str]) -> bool:
    """Tell whether the scan works: it must find a canary in a file made for it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "plant")
        file.write_text(f"before {planted[-1]} after")
        return bool(scan([file], planted))


def _print(schema: Schema, tally: Tally, sample: Any, path: Path, stored: int) -> None:
    out.print(f"[bold]{tally.received:,} events[/] of synthetic meetings, {schema.id}\n")
    out.print(tally_table(tally))
    out.print("\none record:")
    out.print(orjson.dumps(sample).decode(), markup=False)
    out.print(f"\n{stored:,} records stored in {path}; look at them with")
    look = f'"SELECT * FROM {view_of(schema.name)} LIMIT 5"'  # noqa: S608 - it is shown
    out.print(f"  {_program()} store query --data {path.parent} {look}\n", markup=False)


def _program() -> str:
    """Return the command that starts this program from here: its path, if it is not on the search
    path."""
    called = sys.argv[0]
    is_hidden = Path(called).name == "collector" and which("collector") is None
    return called if is_hidden else "collector"


def _print_scan(size: int, hits: Sequence[Hit], planted: int, works: bool) -> None:
    out.print(
        f"Each event's content held {planted} canaries, random texts that must not be stored."
    )
    out.print(f"All {size:,} bytes that were written were searched for them, also in base64, hex,")
    out.print("UTF-16, escaped and compressed form:")
    verdict = "[bold red]found: content was stored[/]" if hits else "[bold green]none found[/]"
    out.print(f"  {verdict}")
    for hit in hits:
        out.print(f"  {hit.path}: {hit.encoding} at byte {hit.offset}", markup=False)
    if not works:
        out.print("  [bold red]but the search does not work: it missed a canary in a test file[/]")
