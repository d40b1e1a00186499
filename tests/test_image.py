"""The Dockerfile without Docker: its steps are carried out in fresh roots, and their result runs as
the image would: as its user, on a root that is read-only, with its health check.

A root has what the base image has that the steps need: this Python, a shell and some of its tools.
What a registry's base image has besides, and how Docker itself builds, is not tried.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import required

_ROOT = Path(__file__).parents[1]
_IMAGE = runpy.run_path(str(_ROOT / ".ci" / "image.py"), run_name="image")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "COLLECTOR_FRESH" not in os.environ, reason="make image installs into fresh roots"
    ),
]

_TRIAL = """
import json, os, signal, subprocess, sys, time, urllib.request
entry, check = json.loads(sys.argv[1])
serving = subprocess.Popen(entry, stderr=subprocess.PIPE)
for _ in range(600):
    if subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0:
        break
    assert serving.poll() is None, serving.stderr.read()
    time.sleep(0.1)
event = urllib.request.Request(
    "http://127.0.0.1:4318/v1/events", b'{"os.type":"linux","chat":["no"]}',
    {"content-type": "application/json"},
)
with urllib.request.urlopen(event, timeout=60) as answer:
    said = json.load(answer)
try:
    open("/opt/collector/x", "w")
    is_fixed = False
except OSError:
    is_fixed = True
healthy = subprocess.run(check).returncode
serving.send_signal(int(sys.argv[2]))
code = serving.wait(60)
log = [json.loads(line)["event"] for line in serving.stderr]
print(json.dumps({"said": said, "healthy": healthy, "code": code, "ids": [os.getuid(), os.getgid()],
    "log": log, "is_fixed": is_fixed, "unhealthy": subprocess.run(check, stderr=-3).returncode}))
"""


def test_the_steps_make_what_runs(tmp_path: Path) -> None:
    """Built, it has no pip and nothing that its user may write but the volume; it starts, is
    healthy, takes an event, and ends by its signal with 0, and then it is not healthy."""
    if os.geteuid() != 0 or sys.platform != "linux" or shutil.which("unshare") is None:
        required("root, and unshare (Debian: util-linux)")
    if subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], check=False
    ).returncode:
        required("the right to make namespaces (CAP_SYS_ADMIN)")
    image = _IMAGE["built"](tmp_path / "roots")
    assert image.user == "65532:65532"
    assert image.volumes == [image.folder] == ["/var/lib/collector"]
    writable = [
        path
        for path in (image.root / "opt").rglob("*")
        if not path.is_symlink() and path.stat().st_uid != 0
    ]
    assert writable == []
    assert not [*(image.root / "opt" / "collector" / "bin").glob("pip*")]
    entry = [*image.words["ENTRYPOINT"], *image.words["CMD"]]
    number = signal.Signals[image.words["STOPSIGNAL"][0]].value
    about = json.dumps([entry, image.words["HEALTHCHECK"]])
    said = json.loads(_IMAGE["run"](image, "python", "-c", _TRIAL, about, str(number), fixed=True))
    assert said.pop("log")[0] == "starting"
    assert said.pop("unhealthy") == 1
    assert said == {
        "said": {"received": 1, "admitted": 1, "rejected": {}},
        "healthy": 0,
        "code": 0,
        "ids": [65532, 65532],
        "is_fixed": True,
    }
    data = image.root / "var" / "lib" / "collector"
    assert (data / "spool.db").stat().st_uid == 65532
    assert data.stat().st_mode & 0o777 == 0o700
    _check_layout(image, tmp_path)


def _check_layout(image: object, folder: Path) -> None:
    """As an OCI image layout, it is the same bytes twice; each blob has its digest, and the layer
    has what the root has."""
    archives = [folder / "one.tar", folder / "two.tar"]
    first, second = (_IMAGE["layout"](image, path, "0.1.0", 1_764_200_000) for path in archives)
    assert first == second
    assert archives[0].read_bytes() == archives[1].read_bytes()
    unpacked = folder / "layout"
    with tarfile.open(archives[0]) as tar:
        tar.extractall(unpacked, filter="data")
    blobs = {path.name: path for path in (unpacked / "blobs" / "sha256").iterdir()}
    for name, path in blobs.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
    (entry,) = json.loads((unpacked / "index.json").read_text())["manifests"]
    assert entry["digest"] == first
    manifest = json.loads(blobs[entry["digest"][7:]].read_text())
    config = json.loads(blobs[manifest["config"]["digest"][7:]].read_text())["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"]
    (layer,) = manifest["layers"]
    with tarfile.open(blobs[layer["digest"][7:]]) as tar:
        names = set(tar.getnames())
        assert tar.getmember("var/lib/collector").uid == 65532
    assert "opt/collector/bin/collector" in names
