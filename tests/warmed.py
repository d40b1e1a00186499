"""What every sidecar and most commands read first, so that processes that are forked afterwards
(``tests.forkserver``) have it already: a shipped schema with the models and the catalogue that it
is checked with, a configuration, and the sinks that everybody has."""

from __future__ import annotations

import collector.sinks.ndjson
import collector.sinks.store  # noqa: F401
from collector.config.loading import read
from collector.schema import load_schema

read(None, {})
load_schema("conferencing").layout  # noqa: B018 - it is computed once
