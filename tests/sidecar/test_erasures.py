"""People are erased from every kind of place at once, under load. No byte of them is left where
Collector reaches, everybody else is there once, and the answer names what it does not reach."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from ipaddress import IPv6Address
from pathlib import Path
from random import Random
from threading import Event

import pytest
from pyarrow import parquet

from collector.server.control_client import Erase, ask
from tests.sidecar.places import SECRETS, SINKS, Places, places
from tests.support.command import run
from tests.support.deadline import wait_until
from tests.support.failing_disk import Say, metric
from tests.support.programs import threads

pytestmark = pytest.mark.servers

_ERASED = int(os.environ.get("COLLECTOR_ERASED", "5"))
_SENDERS = 2
_TOGETHER = 50
"""How many people ask at the same time."""
_EVERY = "10s"
"""Each erasure pass reads all objects of the day, at 15 ms each."""
_MOST_WAITING = 400
"""Senders pause above this number of batches: each pass rewrites a day of the database."""
_TODAY = datetime.now(UTC)
_WINDOW = (
    (_TODAY - timedelta(days=2)).strftime("%Y-%m-%d"),
    (_TODAY + timedelta(days=2)).strftime("%Y-%m-%d"),
)


def _event(address: str) -> bytes:
    return b'{"ip": "%b", "os": {"type": "linux"}, "chat": ["x"]}\n' % address.encode()


def _forms(address: str) -> tuple[bytes, bytes]:
    """The forms of an address in files: text, and PostgreSQL's ``inet``, with its family and
    bits."""
    return address.encode(), b"\x03\x80" + IPv6Address(address).packed


def _content(all_places: Places) -> bytes:
    """All bytes that Collector reaches: its own files, the files of the database's tables and
    indexes, and the current objects, raw and decoded."""
    pieces = [all_places.said(), all_places.postgres.files()]
    for content in all_places.objects().values():
        values = parquet.read_table(BytesIO(content)).to_pylist()
        pieces += [content, str(values).encode()]
    return b"\0".join(pieces)


@pytest.mark.timeout(300 + 5 * _ERASED)
def test_people_are_erased_everywhere(tmp_path: Path, say: Say) -> None:
    with places(tmp_path / "sidecar", every=_EVERY) as all_places:
        _erased_everywhere(all_places, say)


def _erased_everywhere(all_places: Places, say: Say) -> None:
    random, ended = Random(), Event()
    acknowledged, erased = list[str](), list[str]()

    def send() -> None:
        while not ended.is_set():
            address = str(IPv6Address((0x20010DB8 << 96) + random.getrandbits(64)))
            assert sidecar.send(_event(address)).status == 200
            acknowledged.append(address)
            waiting = metric(sidecar, "collector_spool_batches{")
            ended.wait(0.02 if waiting < _MOST_WAITING else 2.0)

    def erase(person: str) -> bool:
        answer = ask(all_places.data, Erase("client.address", person, *_WINDOW, 30.0))
        return answer is not None and answer["removed"]["is_swept"] is True

    with all_places.serving() as sidecar:
        with threads(*[send] * _SENDERS):
            try:
                while (number := min(_ERASED - len(erased), _TOGETHER)) > 0:
                    wait_until(lambda: len(acknowledged) > 20 + len(erased) + _TOGETHER)
                    people = random.sample([*{*acknowledged[-500:]} - {*erased}], number)
                    with ThreadPoolExecutor(number) as pool:
                        assert all(pool.map(erase, people))
                    erased.extend(people)
                    say(f"{len(erased)} of {len(acknowledged)}")
                _names_what_remains(all_places, acknowledged[0])
                erased.append(acknowledged[0])
            finally:
                ended.set()
        wait_until(lambda: not metric(sidecar, "collector_spool_batches{"))
        assert sidecar.stop()[0] == 0
    with all_places.serving() as sidecar:
        wait_until(lambda: not list(all_places.data.glob("sinks/lake/*.ndjson")))
        assert sidecar.stop()[0] == 0
    others = dict.fromkeys({*acknowledged} - {*erased}, 1)
    for name in SINKS:
        assert all_places.addresses(name) == others, name
    content = _content(all_places)
    kept = next(iter(others))
    assert all(form in content for form in _forms(kept))
    assert not [form for person in erased for form in _forms(person) if form in content]


def _names_what_remains(all_places: Places, person: str) -> None:
    """The command's answer names everything that no command reaches, each with its place."""
    window = ("--from", _WINDOW[0], "--to", _WINDOW[1])
    done = run(
        *("subject", "erase", "--config", "collector.yaml", "--json"),
        *("--field", f"client.address={person}", *window),
        directory=all_places.directory,
        env=SECRETS,
    )
    assert done.out, done.err
    assert done.json["is_swept"]
    assert set(done.json["sinks"]) >= {"store", "warehouse", "lake", "lines"}
    beyond = "\n".join(done.json["beyond"])
    for word in ("write-ahead log", "replicas", "earlier versions", "s3://lake/records"):
        assert word in beyond
