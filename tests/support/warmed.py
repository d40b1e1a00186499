"""Load what the processes of tests use first, so that processes that are forked afterwards
(``tests.support.forkserver``) have it: modules of receivers, the SDK and commands; libraries that
these load late; a shipped schema with its models and catalogues; settings; the entry points of
installed packages; and gRPC, whose log is first turned off as in a sidecar."""

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

os.environ["GRPC_VERBOSITY"] = "NONE"
grpc.library()
del os.environ["GRPC_VERBOSITY"]
for _module in (
    *MODULES,
    *("collector.recording.server", "collector.sdk.client", "collector.sdk.spooled_delivery"),
    *("collector.server.preflight", "collector.server.process"),
    *("collector.sinks.ndjson", "collector.sinks.store"),
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.ciphers.aead",
    *("cryptography.hazmat.primitives.poly1305", "cryptography.hazmat.primitives.serialization"),
    *("encodings.idna", "google.protobuf.descriptor_pb2", "joserfc.jwt", "obstore.store"),
    *("pyrage", "ruamel.yaml", "typer._adapters", "uvloop"),
    *("tests.recording.recorder_process", "tests.support.make_batches"),
):
    import_module(_module)
read(None, {})
sink_types._offered_in(tuple(sys.path))
_FILTER = Filter(load_schema("conferencing"))
_FILTER.admit(b"{}")
_FILTER.schema.digest  # noqa: B018 - what writes schemas is built then
_FILTER.minutes()
messages.modules()
for _name in ("serve", "store", "recording"):  # the commands that tests run as processes
    command(_name)
version("data-minimisation-collector")
