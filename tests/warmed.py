"""What commands load and read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: their modules, and libraries that these load late; a shipped
schema with the models and catalogues that it is checked with; settings, what installed packages
offer, and gRPC, which is told first, as a sidecar tells it, to say nothing."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version

from collector.cli.app import MODULES, command
from collector.config import sink_types
from collector.config.loading import read
from collector.filter import Filter
from collector.ingest import grpc
from collector.schema import load_schema
from collector.server import messages

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
for _name in ("serve", "store", "recording"):  # those that tests run as processes
    command(_name)
version("data-minimisation-collector")
