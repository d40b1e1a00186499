"""What sidecars and commands load and read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: a shipped schema with the models and catalogues that it is
checked with, settings, what installed packages offer, and gRPC, which is told first, as a sidecar
tells it, to say nothing."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import collector.sinks.ndjson
import collector.sinks.store  # noqa: F401
from collector.cli.app import MODULES
from collector.config import sink_types
from collector.config.loading import read
from collector.filter import Filter
from collector.ingest import grpc
from collector.schema import load_schema

os.environ["GRPC_VERBOSITY"] = "NONE"
grpc.library()
del os.environ["GRPC_VERBOSITY"]
for module in MODULES:
    import_module(module)
read(None, {})
sink_types._offered_in(tuple(sys.path))
Filter(load_schema("conferencing")).admit(b"{}")
