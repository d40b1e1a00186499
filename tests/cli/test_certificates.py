"""``collector certificates``: a sidecar that is started with what it makes takes what senders send
with it, and nothing else.
"""

from __future__ import annotations

import http.client
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.process import run
from tests.conftest import required
from tests.deadline import WAIT_SECONDS
from tests.sidecar.serving import Sidecar, started

_EVENT = b'{"ip_address": "203.0.113.7"}'
_HOSTS = ("localhost", "127.0.0.1", "::1", "Collector.example.org")
_MADE = {
    *("authority.key", "authority.pem", "server.key", "server.pem"),
    *("collector.yaml", "token"),
}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _sent(sidecar: Sidecar, folder: Path, token: str, host: str = "127.0.0.1") -> int:
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    port = sidecar.ports["http"]
    connection = http.client.HTTPSConnection(host, port, timeout=WAIT_SECONDS, context=context)
    try:
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/events", _EVENT, head)
        return connection.getresponse().status
    finally:
        connection.close()


def test_two_commands_are_a_secure_start(tmp_path: Path) -> None:
    """The sidecar starts with the configuration; a sender needs authority and token. A renewed
    certificate of the same authority is trusted by the same senders."""
    folder = tmp_path / "of 'ours'"
    settings = ("--config", str(folder / "collector.yaml"))
    environ = {f"COLLECTOR__{name}__ADDRESS": "0.0.0.0:0" for name in ("HTTP", "GRPC")}
    for _ in range(2):
        assert run("certificates", "new", *_HOSTS, "--directory", folder).code == 0
        token = (folder / "token").read_text().strip()
        with started(tmp_path, *settings, environ=environ) as sidecar:
            assert _sent(sidecar, folder, token) == 200
            assert _sent(sidecar, folder, token, "localhost") == 200
            assert _sent(sidecar, folder, "another") == 401
            if not (tmp_path / "else").exists():
                run("certificates", "new", "localhost", "--directory", tmp_path / "else")
            with pytest.raises(ssl.SSLCertVerificationError):
                _sent(sidecar, tmp_path / "else", token)


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """Nothing of them is printed; made again, the server's are new, and all else stays."""
    folder = tmp_path / "certificates"
    done = run("certificates", "new", *_HOSTS, "-d", folder)
    before = _files(folder)
    assert before.keys() == _MADE
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert before["token"].strip() not in done.out + done.err + before["collector.yaml"]
    assert run("certificates", "new", *_HOSTS, "-d", folder).code == 0
    after = _files(folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"server.key", "server.pem"}


def test_openssl_likes_them(tmp_path: Path) -> None:
    """As strictly as it can look, by each name, and by no other."""
    if shutil.which("openssl") is None:
        required("openssl")
    assert run("certificates", "new", *_HOSTS, "-d", tmp_path).code == 0
    authority = ("-x509_strict", "-purpose", "sslserver", "-CAfile", tmp_path / "authority.pem")
    for option, name, is_fine in [
        ("-verify_hostname", "collector.example.org", True),
        ("-verify_hostname", "example.org", False),
        ("-verify_ip", "::1", True),
        ("-verify_ip", "127.0.0.2", False),
    ]:
        command = ["openssl", "verify", *map(str, authority), option, name]
        done = subprocess.run(
            [*command, str(tmp_path / "server.pem")], capture_output=True, check=False
        )
        assert (done.returncode == 0) == is_fine, done.stderr


@pytest.mark.parametrize("host", ["", "-a", "a..b", "a b", "ü.example", "*.example.org", "a" * 64])
def test_no_names(tmp_path: Path, host: str) -> None:
    """Usage error, nothing is made, and the name is not repeated."""
    folder = tmp_path / "certificates"
    done = run("certificates", "new", "-d", folder, "--", host)
    assert done.code == 2
    assert not folder.exists()
    assert len(host) < 3 or host.encode() not in done.err


def test_another_authority_is_left_alone(tmp_path: Path) -> None:
    """Files that are none stay as they are, and the command says so."""
    (tmp_path / "authority.key").write_text("canary")
    before = _files(tmp_path)
    done = run("certificates", "new", "localhost", "-d", tmp_path)
    assert done.code == 78
    assert b"E212" in done.err
    assert b"canary" not in done.err
    assert _files(tmp_path) == before
