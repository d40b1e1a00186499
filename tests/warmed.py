"""What sidecars and most commands load and read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: a shipped schema with the models and catalogues that it is
checked with, settings, what installed packages offer, and gRPC, which is told first, as a sidecar
tells it, to say nothing."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import collector.sinks.ndjson
import collector.sinks.store  # noqa: F401
from collector.cli.app import NAMES, command
from collector.config import sink_types
from collector.config.loading import read
from collector.filter import Filter
from collector.ingest import grpc
from collector.schema import load_schema
from collector.server import messages

os.environ["GRPC_VERBOSITY"] = "NONE"
grpc.library()
del os.environ["GRPC_VERBOSITY"]
read(None, {})
sink_types._offered_in(tuple(sys.path))
_schema = load_schema("conferencing")
_schema.digest  # noqa: B018 - what writes schemas is built then
_filter = Filter(_schema)
_filter.admit(b"{}")
_filter.minutes()
messages.modules()
for _name in NAMES:
    if f"collector.cli.{_name}" in sys.modules:
        command(_name)
version("data-minimisation-collector")
