"""What commands load and read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: what receivers have, modules of commands, libraries that
these load late, settings, and what installed packages offer."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

from collector.cli.app import MODULES, command
from collector.config import sink_types
from collector.config.loading import read
from collector.server import messages
from tests.ingest.warmed import FILTER

for _module in (
    *MODULES,
    *("collector.recording.server", "collector.server.process"),
    *("collector.sinks.ndjson", "collector.sinks.store"),
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.serialization",
    *("encodings.idna", "google.protobuf.descriptor_pb2", "joserfc.jwt", "ruamel.yaml"),
    *("typer._adapters", "uvloop"),
):
    import_module(_module)
read(None, {})
sink_types._offered_in(tuple(sys.path))
FILTER.schema.digest  # noqa: B018 - what writes schemas is built then
FILTER.minutes()
messages.modules()
for _name in ("serve", "store", "recording"):  # those that tests run as processes
    command(_name)
version("data-minimisation-collector")
