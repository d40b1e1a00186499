"""The recorder as a process: kills, restarts, what its files and its log do not hold."""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import sqlite3
import ssl
import subprocess
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path
from shutil import which
from time import sleep
from unittest.mock import patch

import pytest

from collector.config import Config
from collector.control_socket import FILE_NAME as CONTROL_NAME
from collector.control_socket import exchange
from collector.errors import DeliveryError
from collector.ledger import Entry, opened
from collector.ops.log import EventLog
from collector.recording import Recorder
from collector.recording.access import Verifier, create_key, key_set
from collector.recording.control import ask
from collector.recording.jwks import KeySource
from collector.recording.server import _Process
from tests.recording.recorders import opened_recording
from tests.recording.serving import TERMS, running
from tests.support.certificates import Authority, Pair
from tests.support.command import run, run_process
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.raising import raises
from tests.support.rows import for_each

_CANARY = b"CANARY-0123456789-CONTENT" * 4000


def test_a_kill_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    """The grant is closed, acknowledged chunks are there, and nothing of the others is."""
    with running(tmp_path) as meeting:
        meeting.opened("ben")
        for number in range(3):
            assert meeting.chunk("b", number, b"%d" % number * 100_000).status == 201
        head = (
            f"PUT /v1/recordings/{meeting.recording}/tracks/b/chunks/3 HTTP/1.1\r\n"
            f"Host: localhost\r\nAuthorization: Bearer {meeting.token('media', 'm')}\r\n"
            "Collector-Kind: audio\r\nCollector-Owner: ben\r\nContent-Length: 200000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", meeting.process.ports["recorder"])) as sender:
            sender.sendall(head.encode() + _CANARY[:90_000])
            meeting.process.stop(signal.SIGKILL)
    assert not _found(tmp_path, _CANARY[:100])
    with running(tmp_path) as again:
        again.recording = meeting.recording
        assert again.code(again.chunk("b", 3, b"x")) == "closed"
        track = again.call("viewer", "v", "GET", "/tracks/b")
        assert track.body == b"".join(b"%d" % number * 100_000 for number in range(3))
        assert again.process.stop()[0] == 0
    facts = [dict(entry.facts) for entry in _entries(tmp_path)]
    closed = [each["outcome"] for each in facts if each.get("what") == "close"]
    assert closed == ["restarted"]


def _entries(directory: Path) -> list[Entry]:
    with opened(directory / "recorder" / "recorder.db") as ledger:
        return list(ledger.entries())


def _found(directory: Path, text: bytes) -> list[str]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [path.name for path in files if text in path.read_bytes()]


def test_a_stop_closes_recordings(tmp_path: Path) -> None:
    """SIGTERM ends the process at once, with every recording closed; streams of events end."""
    with running(tmp_path) as meeting:
        meeting.opened()
        address = ("127.0.0.1", meeting.process.ports["recorder"])
        with socket.create_connection(address, WAIT_SECONDS) as reader:
            reader.sendall(
                f"GET /v1/recordings/{meeting.recording}/events HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {meeting.token('host', 'ana')}\r\n\r\n".encode()
            )
            assert reader.recv(12) == b"HTTP/1.1 200"
            code, seconds = meeting.process.stop()
            while reader.recv(65536):
                pass
        assert code == 0
        wait_until(lambda: meeting.process.events[-1]["event"] == "stopped")
        assert [each["event"] for each in meeting.process.events] == [
            "started",
            "stopping",
            "stopped",
        ]
        assert seconds < 20
    with running(tmp_path) as again:
        again.recording = meeting.recording
        assert again.code(again.control("resume")) == "closed"


def test_no_content_token_or_pseudonym_is_anywhere(tmp_path: Path) -> None:
    host, member = "Canary-Host-4711", "Canary-Member-4711"
    with running(tmp_path) as meeting:
        meeting.request(host)
        meeting.join(host, member)
        meeting.choose(member)
        meeting.control("start", host)
        tokens = [meeting.token("media", member), meeting.token("participant", member)]
        about = {"Collector-Kind": "audio", "Collector-Owner": member}
        for number in range(2):
            path = f"/tracks/t/chunks/{number}"
            answer = meeting.call("", "", "PUT", path, _CANARY, about, token=tokens[0])
            assert answer.status == 201
        assert (
            meeting.call("", "", "PUT", "/tracks/t/chunks/9", b"x", token=tokens[1]).status == 400
        )
        meeting.control("stop", host)
        assert meeting.call("viewer", member, "GET", "/tracks/t").body == _CANARY * 2
        tokens.append(tokens[0].rpartition(".")[2])
        secrets = [
            _CANARY[:50],
            host.encode(),
            member.encode(),
            *(each.encode() for each in tokens),
        ]
        log = "\n".join(meeting.process.log).encode()
        for secret in secrets:
            assert not _found(tmp_path / "recorder", secret)
            assert secret not in log
        meeting.process.stop()
    for secret in secrets:
        assert not _found(tmp_path / "recorder", secret)
        assert secret not in "\n".join(meeting.process.log).encode()


def test_a_local_recording_is_the_hosts_alone(tmp_path: Path) -> None:
    """The recorder hands out what only the host's key opens, with age's own format."""
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    key = tmp_path / "host.txt"
    key.write_text(f"{identity}\n")
    with running(tmp_path) as meeting:
        meeting.request(storage="local", recipient=str(identity.to_public()))
        meeting.join("ana")
        meeting.choose("ana")
        meeting.control("start")
        for number in range(2):
            assert meeting.chunk("a", number, b"%d" % number * 1000, "ana").status == 201
        meeting.control("stop")
        answer = meeting.call("host", "ana", "GET", "/tracks/a")
        assert answer.headers["content-type"] == "application/x-tar"
        folder = tmp_path / "taken"
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            tar.extractall(folder, filter="data")
        manifest = meeting.call("host", "ana", "GET", "/manifest").body
        (folder / "manifest.jsonl").write_bytes(manifest)
        words = ["age", "-d", "-i", str(key), str(folder / "a" / "1.age")]
        if which("age"):
            assert subprocess.run(words, check=True, capture_output=True).stdout == b"1" * 1000
    made = run("recording", "assemble", folder, "-i", key, "-o", tmp_path)
    assert (made.code, made.err) == (0, b"")
    assert (tmp_path / "a.audio").read_bytes() == b"0" * 1000 + b"1" * 1000


def test_commands_while_it_runs(tmp_path: Path) -> None:
    """An operator lists, opens, rotates and erases beside a recorder, and the ledger has it."""
    folder = tmp_path / ("long-" * 20)  # longer than the path of a socket file may be
    folder.mkdir()
    config = ("--config", folder / "recorder.yaml")
    with running(folder) as meeting:
        meeting.opened("ben")
        assert meeting.chunk("b", 0, b"content").status == 201
        meeting.control("stop")
        listed = run("recording", "list", *config, "--json").json
        assert [(each["id"], each["state"]) for each in listed] == [(meeting.recording, "closed")]
        assert run("recording", "open", meeting.recording, "b", *config).out == b"content"
        assert run("recording", "rotate", *config).code == 0
        assert run("recording", "verify", *config).code == 0
        line = run("recording", "show", meeting.recording, "--checkpoint", *config).out
        (folder / "kept").write_bytes(line)
        noted = ("--checkpoint", folder / "kept")
        assert run("recording", "verify", meeting.recording, *noted, *config).code == 0
        assert meeting.call("viewer", "v", "GET", "/tracks/b").body == b"content"
        for other in ("ab c", "é", "0" * 32):  # the recorder answers, whatever is asked for
            ended = run("recording", "erase", other, "--yes", *config)
            assert (ended.code, b"E433" in ended.err) == (65, True)
        assert run("recording", "erase", meeting.recording, "--yes", *config).code == 0
        assert meeting.code(meeting.call("viewer", "v", "GET", "/tracks/b")) == "erased"
        assert run("recording", "erase", "0" * 32, "--yes", *config).code == 65
        meeting.process.stop()
    assert run("recording", "rotate", *config).code == 0
    facts = [dict(entry.facts) for entry in _entries(folder)]
    what = [each.get("what") for each in facts]
    assert [what.count(each) for each in ("rotate", "open", "erase")] == [2, 1, 2]
    assert run("ledger", "verify", "--data", folder / "recorder").code == 0


def test_who_asks_wrongly_disturbs_no_other(tmp_path: Path) -> None:
    with running(tmp_path) as meeting, ExitStack() as stack:
        meeting.opened("ben")
        directory = tmp_path / "recorder"
        path = directory / CONTROL_NAME
        assert path.stat().st_mode & 0o777 == 0o600
        for line in (
            b"",
            b"x",
            b'["erase"]',
            b'{"command":"status"}',
            b"[" * 60_000,
            b"y" * 200_000,
        ):
            assert exchange(directory, line + b"\n", WAIT_SECONDS) == b""
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for each in silent:
            each.settimeout(WAIT_SECONDS)
            each.connect(str(path))
        silent[0].sendall(b'["er')
        command = ("recording", "erase", meeting.recording, "--yes", "--data", directory)
        assert run(*command).code == 0
        assert meeting.process.stop()[0] == 0
        assert [each.recv(1) for each in silent] == [b""] * len(silent)
        wait_until(lambda: meeting.process.events[-1]["event"] == "stopped")
        events = [each["event"] for each in meeting.process.events]
        assert events == ["started", "stopping", "stopped"]


def test_a_stop_while_it_erases(tmp_path: Path) -> None:
    """The operator is told that there was no answer, and the same command then does it."""
    with running(tmp_path) as meeting, ThreadPoolExecutor() as pool:
        meeting.opened("ben")
        assert meeting.chunk("b", 0, b"content").status == 201
        directory = tmp_path / "recorder"
        with closing(sqlite3.connect(directory / "recorder.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")  # which the recorder waits for
            asked = pool.submit(ask, directory, "erase", meeting.recording)
            sleep(0.3)  # it has come by then, or comes too late: both end alike
            meeting.process.process.send_signal(signal.SIGTERM)
            wait_until(lambda: meeting.process.events[-1]["event"] == "stopping")
        with raises("E514", DeliveryError):
            asked.result(WAIT_SECONDS)
        assert meeting.process.process.wait(WAIT_SECONDS) == 0
        wait_until(lambda: meeting.process.events[-1]["event"] == "stopped")
        events = [each["event"] for each in meeting.process.events]
        assert events == ["started", "stopping", "stopped"]
    command = ("recording", "erase", meeting.recording, "--yes", "--data", directory)
    assert run(*command).code == 0
    assert not list(directory.rglob("*.age"))


@for_each("words", [["recording", "list"], ["recording", "rotate"]])
def test_the_extra_is_named(words: list[str]) -> None:
    has = ("typer", "rich").__contains__
    found = patch("collector.extras.is_installed", side_effect=has)
    with found:
        ended = run(*words)
    assert ended.code == 78
    assert ended.err.decode().count("\n") == 1
    assert b"pip install 'data-minimisation-collector[recording]'" in ended.err


def test_a_full_queue_is_not_ready(tmp_path: Path) -> None:
    """A sender is told that there is no room, and so is whoever asks for readiness; what was
    acknowledged is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        (tmp_path / "secret").write_text("secret")
        secrets = dict.fromkeys(
            ("bucket_access_key", "bucket_secret_key"), f"file:{tmp_path / 'secret'}"
        )
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        chosen = {"bucket": "s3://recordings", "bucket_endpoint": place, "queue": "16MiB"}
        with running(tmp_path, **chosen, **secrets) as meeting:
            meeting.opened("ben")
            data, number = bytes(4 << 20), 0
            while (answer := meeting.chunk("b", number, data)).status == 201:
                number += 1
            assert (meeting.code(answer), answer.headers["retry-after"]) == ("full", "5")
            ready = meeting.process.request("GET", "/readyz", to="recorder")
            assert (ready.status, number) == (503, 3)
            assert meeting.call("participant", "ben", "DELETE", "/members/me").status == 204
            assert meeting.process.request("GET", "/readyz", to="recorder").status == 200


def test_without_keys_it_is_not_ready(tmp_path: Path) -> None:
    """Every call would be refused; the log says why."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        keys = f"https://127.0.0.1:{closed.getsockname()[1]}/jwks"
    with running(tmp_path, keys=keys) as meeting:
        ready = meeting.process.request("GET", "/readyz?verbose", to="recorder")
        assert (ready.status, b"[-] keys failing" in ready.body) == (503, True)
        assert meeting.code(meeting.call("host", "ana", "POST", "", TERMS)) == "unavailable"
        wait_until(lambda: meeting.process.events[-1]["event"] == "keys_failing")


def test_a_full_disk_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(tmp_path / "key")
    (tmp_path / "keys").write_bytes(key_set(tmp_path / "key"))
    config = Config.model_validate({"recorder": {"keys": str(tmp_path / "keys")}})
    with closing(Recorder(tmp_path / "r")) as recorder, monkeypatch.context() as patched:
        verifier = Verifier(KeySource(str(tmp_path / "keys")))
        process = _Process(config, EventLog("info"), recorder, verifier)
        assert set(process._readiness().values()) == {"ok"}
        patched.setattr("collector.recording.server._TICK_SECONDS", 0.01)
        written = list[str]()
        patched.setattr(process._log, "write", lambda event, **_: written.append(event))

        async def watch() -> None:
            ending = asyncio.get_running_loop().create_future()
            watching = asyncio.create_task(process._watch(ending))
            with patch("collector.recording.vault._SPARE_BYTES", 1 << 60):
                assert process._readiness()["disk"] == "failing"
                await asyncio.to_thread(wait_until, lambda: written)
            await asyncio.to_thread(wait_until, lambda: len(written) > 1)
            ending.set_result((15, 0.0))
            await watching

        asyncio.run(watch())
    assert written == ["disk_full", "disk_recovered"]


@pytest.mark.long
def test_a_stop_while_the_bucket_hangs(tmp_path: Path) -> None:
    """A reader and an upload wait for it: recordings are closed nevertheless, and the process does
    not live on for the minute that a request may take."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        (tmp_path / "secret").write_text("secret")
        secrets = dict.fromkeys(
            ("bucket_access_key", "bucket_secret_key"), f"file:{tmp_path / 'secret'}"
        )
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        chosen = {"bucket": "s3://recordings", "bucket_endpoint": place}
        with running(tmp_path, **chosen, **secrets) as meeting:
            meeting.opened("ben")
            assert meeting.chunk("b", 0, b"content").status == 201
            meeting.control("stop")
            next(tmp_path.rglob("0.age")).unlink()  # only the bucket could have it
            token = meeting.token("viewer", "v")
            head = (
                f"GET /v1/recordings/{meeting.recording}/tracks/b HTTP/1.1\r\nHost: localhost\r\n"
            )
            address = ("127.0.0.1", meeting.process.ports["recorder"])
            with socket.create_connection(address) as reader:
                reader.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
                assert reader.recv(12) == b"HTTP/1.1 200"
                meeting.opened("ben")
                code, seconds = meeting.process.stop()
            assert (code, seconds < 40) == (0, True)
            wait_until(lambda: meeting.process.events[-1]["event"] == "stopped")
    closed = [dict(e.facts) for e in _entries(tmp_path) if dict(e.facts).get("what") == "close"]
    assert [each["outcome"] for each in closed] == ["stopped", "restarted"]


def test_tls(tmp_path: Path) -> None:
    """The recorder speaks TLS 1.2 and later, to clients with a certificate where one is set."""
    authority = Authority(tmp_path)
    own, client = authority.issue("server"), authority.issue("client")
    tls = {"certificate": own.certificate, "key": own.key, "client_ca": authority.own.certificate}
    more = {"tls": {name: str(path) for name, path in tls.items()}}
    with running(tmp_path, more) as meeting:
        port = meeting.process.ports["recorder"]

        def status(pair: Pair | None, newest: ssl.TLSVersion) -> int:
            context = ssl.create_default_context(cafile=str(authority.own.certificate))
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest
            if pair is not None:
                context.load_cert_chain(pair.certificate, pair.key)
            with closing(HTTPSConnection("localhost", port, context=context)) as connection:
                connection.request("GET", "/openapi.json")
                return connection.getresponse().status

        assert status(client, ssl.TLSVersion.TLSv1_3) == 200
        assert status(client, ssl.TLSVersion.TLSv1_2) == 200
        with pytest.raises(OSError, match=r"."):
            status(None, ssl.TLSVersion.TLSv1_3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(OSError, match=r"."):
                status(client, ssl.TLSVersion.TLSv1_1)


def test_one_process_for_a_directory(tmp_path: Path) -> None:
    """A second recorder does not start, and says why; it may be tried again (75)."""
    with running(tmp_path) as meeting:
        meeting.request()
        ended = run_process("recording", "serve", "--config", tmp_path / "recorder.yaml")
        assert ended.code == 75
        assert b"in use" in ended.err


def test_a_recorder_that_is_off_does_not_start(tmp_path: Path) -> None:
    ended = run_process("recording", "serve", directory=tmp_path)
    assert ended.code == 78
    assert b"recorder.enabled" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_word_that_is_no_id(tmp_path: Path) -> None:
    """Each command says that there is no such recording, also if the word is no text at all."""
    Recorder(tmp_path / "r").close()
    for word in ("ab c", "\udcff"):
        for rest in (["erase", "--yes"], ["show"], ["show", "--checkpoint"], ["verify"]):
            ended = run("recording", *rest, word, "--data", tmp_path / "r")
            assert (ended.code, b"E433" in ended.err) == (65, True), rest
        ended = run("recording", "open", word, word, "--data", tmp_path / "r")
        assert (ended.code, b"E433" in ended.err) == (65, True)


def test_content_without_a_grant_is_found(tmp_path: Path) -> None:
    """A recording that was taken out of the recorder's file would be kept for ever."""
    recorder = Recorder(tmp_path / "r")
    opened_recording(recorder)
    recorder.close()
    data = ("--data", tmp_path / "r")
    assert run("recording", "verify", *data).code == 0
    query(tmp_path / "r" / "recorder.db", "DELETE FROM recordings")
    assert run("recording", "verify", *data).code == 1
