"""While canaries pass in every slot, none is ever in the keeper's memory, read from outside."""

from __future__ import annotations

import secrets
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from tests.sidecar.marks import Marks
from tests.sidecar.memory import Samples
from tests.sidecar.senders import Body
from tests.sidecar.swept import events, exports, records, send, swept
from tests.support.certificates import Authority
from tests.support.deadline import wait_until
from tests.support.processes import children
from tests.support.sidecar import Sidecar

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def _planted() -> str:
    """A text that stays in the keeper's memory, because it is in the environment."""
    return f"planted-{secrets.token_hex(8)}"


@contextmanager
def _searched(sidecar: Sidecar, texts: list[bytes], planted: str) -> Iterator[Callable[[], bool]]:
    """Search the memory of keeper and workers during the block. Each sample of the keeper must have
    the planted text and no sent text; the workers must have had the sent ones. Yields a function
    that tells whether the workers' samples have had all of them so far."""
    keeper = Samples(lambda: [sidecar.process.pid], [*texts, planted.encode()])
    workers = Samples(lambda: children(sidecar.process.pid), texts, 2)

    def passed() -> bool:
        return all(workers.found[text] for text in texts)

    with keeper, workers:
        yield passed
        wait_until(lambda: keeper.taken >= 2)
    assert keeper.taken >= 3
    print(f"{keeper.taken} samples of {keeper.bytes >> 20} MiB together: {keeper.found}")
    assert keeper.found == {planted.encode(): keeper.taken}
    assert passed(), "they pass here"


@pytest.mark.long
def test_the_keeper_never_has_a_canary(tmp_path: Path) -> None:
    """Over HTTP and gRPC: names, values, headers, tokens, queries, metadata, bodies in each form,
    good and bad; and idempotency keys, which the worker hashes first."""
    marks, planted = Marks(), _planted()
    texts = [marks.text("").rpartition("-")[0].encode(), str(marks.whole(""))[:9].encode()]
    key = secrets.token_bytes(16)
    with swept(tmp_path, {"COLLECTOR_PLANT": planted}) as sidecar:
        with _searched(sidecar, texts, planted):
            send(sidecar, marks, tmp_path / "seen", {"User-Agent": marks.text("user agent")})
        with _searched(sidecar, [key], planted) as passed:

            def sent() -> bool:
                for body in records(marks):
                    head = body.headers() | {"Idempotency-Key": key.hex()}
                    sidecar.request("POST", body.path, body.content, head)
                return passed()

            wait_until(sent)


@pytest.mark.long
def test_nor_over_tls(tmp_path: Path) -> None:
    """Over encrypted HTTP and gRPC, with wrong tokens."""
    marks, planted = Marks(), _planted()
    texts = [marks.text("").rpartition("-")[0].encode()]
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    issued.key.chmod(0o600)
    settings = {
        "COLLECTOR__TLS__CERTIFICATE": str(issued.certificate),
        "COLLECTOR__TLS__KEY": str(issued.key),
        "COLLECTOR_PLANT": planted,
    }
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    trusted = grpc.ssl_channel_credentials(authority.own.certificate.read_bytes())
    with swept(tmp_path, settings) as sidecar, _searched(sidecar, texts, planted):
        connection = HTTPSConnection("localhost", sidecar.ports["http"], context=context)
        for body in _bodies(marks):
            head = body.headers() | {"Authorization": f"Bearer {marks.text('token')}"}
            connection.request("POST", f"{body.path}?{marks.text('query')}", body.content, head)
            connection.getresponse().read()
        connection.close()
        with grpc.secure_channel(f"localhost:{sidecar.ports['grpc']}", trusted) as channel:
            for method, message in exports(marks).calls():
                metadata = [(marks.text("name"), marks.text("value"))]
                channel.unary_unary(method)(message, metadata=metadata, timeout=60)


def _bodies(marks: Marks) -> list[Body]:
    made = exports(marks)
    return [*events(marks), *records(marks), *made.bodies()[::5], *made.json[::5]]
