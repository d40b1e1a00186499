"""``collector spool show|redeliver``: batches that a sink did not take, which were set aside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector import drain
from collector.cli.console import err, group, out, print_json
from collector.cli.data_dir import Data, settings
from collector.cli.options import AsJson
from collector.cli.serve import ConfigFile
from collector.config import Config
from collector.contracts import layout_of
from collector.errors import ConfigError, file_name
from collector.routing import all_flows, reaching
from collector.routing.schemas import configured
from collector.server.control_client import Redeliver, ask
from collector.sinks.sink import Opening, open_sink
from collector.spool import FILE_NAME, Spool
from collector.spool.set_aside import RefusedBatch, SetAside

app: typer.Typer = group("Show and redeliver the batches that a sink did not take.")
_SinkName = Annotated[
    str | None,
    typer.Option("--sink", metavar="NAME", help="Only those of this sink."),
]


@app.command("show")
def show(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """List the batches that were set aside: for which sink, of which schema and minute, and how
    many records. No value is shown, and a sidecar may be running."""
    refused = _open_set_aside(settings(config, data)).all()
    if as_json:
        print_json({"set_aside": [_as_dict(each) for each in refused]})
        return
    for each in refused:
        row = _as_dict(each)
        out.print(
            f"{row['sink']}: {row['id']}, {row['schema']}, {row['received']},"
            f" {row['records']:,} records",
            markup=False,
        )
    if not refused:
        out.print("nothing was set aside")


@app.command("redeliver")
def redeliver(
    config: ConfigFile = None, data: Data = None, sink: _SinkName = None, as_json: AsJson = False
) -> None:
    """Hand the batches that were set aside to their sinks again, with the fields that each may have
    now; a sidecar that runs does it. Exit 1 if a sink still does not take some."""
    chosen = settings(config, data)
    schemas = configured(chosen)
    matrices, folder = all_flows(chosen, schemas), _folder(chosen)
    sinks, fields_for = matrices[0].sinks, reaching(matrices)
    aside, taken = SetAside(folder), 0
    refused = [each for each in aside.all() if sink in (None, each.sink)]
    answer = ask(folder, Redeliver(sink)) if refused else None
    if answer is not None:
        taken = answer["delivered"]
    elif refused:
        with Spool(folder / FILE_NAME):  # no sidecar has the directory meanwhile
            for name in dict.fromkeys(each.sink for each in refused):
                if name in sinks:
                    opening = Opening(name, schemas, folder)
                    with open_sink(sinks[name], opening) as opened:
                        taken += drain.redeliver(name, opened, aside, fields_for)
                else:
                    err.print(f"no sink {name} is switched on", markup=False)
    left = len(refused) - taken
    if as_json:
        print_json({"delivered": taken, "left": left})
    else:
        out.print(f"{taken:,} batches delivered, {left:,} left")
    raise typer.Exit(1 if left else 0)


def _as_dict(refused: RefusedBatch) -> dict[str, str | int]:
    batch = refused.batch
    return {
        "sink": refused.sink,
        "id": batch.id.hex(),
        "schema": layout_of(batch).schema,
        "received": batch.received,
        "records": batch.payload.count(b"\n"),
    }


def _folder(config: Config) -> Path:
    folder = config.data or Path()
    if not folder.is_dir():
        raise ConfigError("E203", f"{file_name(folder)} is no directory; name that of the data")
    return folder


def _open_set_aside(config: Config) -> SetAside:
    return SetAside(_folder(config))
