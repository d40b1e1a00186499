"""The exporters of OpenTelemetry's SDK for Python, made as its documentation says."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from collector.contracts import Signal
from tests.support.deadline import WAIT_SECONDS

COMPRESSIONS = {"none": "NoCompression", "gzip": "Gzip", "deflate": "Deflate"}
"""The compressions that both transports know: the name for HTTP, and the name for gRPC."""
_NAMES: dict[Signal, tuple[str, str]] = {
    "logs": ("_log_exporter", "OTLPLogExporter"),
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
}


def exporter(
    signal: Signal, transport: str, port: int, compression: str = "none", **options: Any
) -> Any:
    """Make the exporter of a signal over ``http`` or ``grpc``, to a port of this machine. gRPC is
    encrypted if ``credentials`` are given."""
    module, name = _NAMES[signal]
    package = f"opentelemetry.exporter.otlp.proto.{transport}"
    make = getattr(import_module(f"{package}.{module}"), name)
    if transport == "http":
        packing = import_module(package).Compression(compression)
        place = f"http://127.0.0.1:{port}/v1/{signal}"
    else:
        packing = getattr(import_module("grpc").Compression, COMPRESSIONS[compression])
        is_insecure = "credentials" not in options
        place = f"{'http' if is_insecure else 'https'}://127.0.0.1:{port}"
        options = {"insecure": is_insecure, **options}
    return make(endpoint=place, compression=packing, **{"timeout": WAIT_SECONDS, **options})
