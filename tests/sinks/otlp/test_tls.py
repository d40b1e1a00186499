"""Encryption: the receiver's certificate is checked, and the sink shows its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.errors import Unreachable
from collector.schema import load_schema
from collector.sinks.otlp import OtlpSettings
from collector.sinks.sink import Opening, open_sink
from collector.testing.sinks import batch_of, person
from tests.support.certificates import Authority
from tests.support.otlp_receivers import grpc_receiver, http_receiver

_SCHEMA = load_schema("conferencing")


@pytest.mark.parametrize(
    ("protocol", "receiver"), [("http", http_receiver), ("grpc", grpc_receiver)]
)
def test_mutual_tls(tmp_path: Path, protocol: str, receiver: Any) -> None:
    """The receiver and the sink each accept only certificates of the authority that they trust."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server, own = authority.issue("server"), authority.issue("sink")
    foreign = stranger.issue("foreign")
    trusted = authority.own.certificate
    right: dict[str, Any] = {"ca": trusted, "certificate": own.certificate, "key": own.key}
    changed: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"certificate": tmp_path / "whole.pem", "key": None}, True),
        ({"ca": None}, False),
        ({"ca": stranger.own.certificate}, False),
        ({"certificate": None, "key": None}, False),
        ({"certificate": foreign.certificate, "key": foreign.key}, False),
    ]
    whole = tmp_path / "whole.pem"
    whole.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    with receiver(pair=server, authority=trusted) as received:
        for number, (changes, is_taken) in enumerate(changed, 1):
            made = {name: path for name, path in (right | changes).items() if path is not None}
            settings = OtlpSettings(
                type="otlp",
                protocol=protocol,
                endpoint=f"https://localhost:{received.port}",
                timeout="60s",
                **made,
            )
            with open_sink(settings, Opening("backend", (_SCHEMA,), tmp_path)) as sink:
                batch = batch_of(number, [number], _SCHEMA)
                if is_taken:
                    sink.deliver(batch)
                else:
                    with pytest.raises(Unreachable):
                        sink.deliver(batch)
    assert received.people() == {person(1): 1, person(2): 1}
