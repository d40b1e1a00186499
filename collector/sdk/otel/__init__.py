"""OpenTelemetry, minimised before it leaves the process.

from collector.sdk.otel import minimise

provider.add_span_processor(BatchSpanProcessor(minimise(OTLPSpanExporter())))
"""

from __future__ import annotations

from collector.sdk.otel.wrapper import minimise

__all__ = ["minimise"]
