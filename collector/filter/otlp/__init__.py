"""OpenTelemetry's logs, traces and metrics through a schema: of attributes come records, and of
nothing else.

An event is a log record, a span or a data point of a metric; its members are its attributes, those
of its scope and those of its resource.
"""

from __future__ import annotations

from collector.filter.otlp.hearing import Hearing
from collector.filter.otlp.run import Otlp

__all__ = ["Hearing", "Otlp"]
