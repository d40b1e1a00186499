"""What receivers load and read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: a shipped schema with the models and catalogues that it is
checked with, and gRPC, which is told first, as a sidecar tells it, to say nothing."""

from __future__ import annotations

import os

from collector.filter import Filter
from collector.ingest import grpc
from collector.schema import load_schema

os.environ["GRPC_VERBOSITY"] = "NONE"
grpc.library()
del os.environ["GRPC_VERBOSITY"]
FILTER = Filter(load_schema("conferencing"))
FILTER.admit(b"{}")
