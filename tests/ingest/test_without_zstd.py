"""zstd, where its library is not installed."""

from __future__ import annotations

import sys

import pytest

from collector.errors import ConfigError
from collector.ingest import decompression
from collector.ingest.decompression import Compressed, zstd_library
from collector.ingest.limits import IngestLimits
from collector.ingest.refusals import UNSUPPORTED_ENCODING, RequestRefused
from tests.support.raising import raises


def test_zstd_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bodies are refused, and who asks for it is told what to install."""
    wire = bytes(zstd_library().compress(b"x"))
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    decompression._zstd.cache_clear()
    with raises("E201", ConfigError):
        zstd_library()
    with pytest.raises(RequestRefused) as caught:
        Compressed("zstd", wire, IngestLimits()).body()
    assert caught.value.refusal is UNSUPPORTED_ENCODING
    assert caught.value.__context__ is None
