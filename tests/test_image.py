"""The Dockerfile without Docker: its steps are carried out in fresh roots, and their result runs as
the image would: as its user, on a root that is read-only, with its health check.

A root has what the base image has that the steps need: this Python, a shell and some of its tools.
What a registry's base image has besides, and how Docker itself builds, is not tried.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import required

_ROOT = Path(__file__).parents[1]
_DOCKERFILE = _ROOT / "deploy" / "Dockerfile"
_TOOLS = ("sh", "env", "install", "mkdir", "rm", "cat", "ls", "id")
_OF_DEBIAN = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1"),
    *("libpthread.so.0", "libutil.so.1", "libresolv.so.2"),
)
"""Libraries that Debian's smallest image has, and wheels rely on."""
_LIBRARY = re.compile(r"(/\S+) \(0x")
_PASSED = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_SECONDS = 1500
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "COLLECTOR_FRESH" not in os.environ, reason="make image installs into fresh roots"
    ),
]

_RUN = """
import os, subprocess, sys
root, user, folder, is_fixed, *words = sys.argv[1:]
for place in ("proc", "dev", "tmp"):
    os.makedirs(f"{root}/{place}", exist_ok=True)
def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)
mount("--make-rprivate", "/")
if is_fixed == "fixed":
    mount("--bind", root, root)
    mount("--bind", f"{root}/var/lib/collector", f"{root}/var/lib/collector")
    mount("-o", "remount,ro,bind", root)
mount("-t", "proc", "proc", f"{root}/proc")
mount("-t", "tmpfs", "tmpfs", f"{root}/tmp")
mount("--rbind", "/dev", f"{root}/dev")
if is_fixed == "fixed":  # which has a network of its own
    import fcntl, socket, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))
os.chroot(root)
os.chdir(folder)
if user:
    number, _, group = user.partition(":")
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(number))
os.execvpe(words[0], words, os.environ)
"""
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


@dataclass
class _Stage:
    """A stage of a build: its root, and what its instructions have set."""

    root: Path
    folder: str = "/"
    user: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)


def _instructions() -> Iterator[tuple[str, str]]:
    """The instructions of the Dockerfile, and the rest of each."""
    text = re.sub(r"^#.*\n", "", _DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def _libraries(binaries: list[Path]) -> set[Path]:
    """The shared libraries that programs and modules need."""
    listed = subprocess.run(
        ["ldd", *map(str, binaries)], capture_output=True, text=True, check=False
    ).stdout
    return {Path(found) for found in _LIBRARY.findall(listed)}


def _put(root: Path, file: Path) -> None:
    target = root / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(file, target)


def _base(root: Path) -> _Stage:
    """A fresh root: this Python below ``/usr/local``, a shell and tools, names and certificates."""
    prefix = Path(sys.base_prefix)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    ignored = shutil.ignore_patterns("__pycache__", "test", "site-packages", "*.a", "idlelib")
    library = root / "usr" / "local" / "lib" / f"python{version}"
    shutil.copytree(prefix / "lib" / f"python{version}", library, ignore=ignored, symlinks=True)
    (library / "site-packages").mkdir(exist_ok=True)
    binary = root / "usr" / "local" / "bin" / "python"
    binary.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), binary)
    tools = [Path(str(shutil.which(tool))) for tool in _TOOLS]
    for tool in tools:
        _put(root, Path("/bin") / tool.name if tool.parent.name == "bin" else tool)
    loaded = [Path(sys.executable).resolve(), *tools, *library.rglob("*.so")]
    of_system = [next(Path("/usr/lib").glob(f"*/{name}")) for name in _OF_DEBIAN]
    for file in [*_libraries(loaded), *of_system]:
        if file.is_relative_to(prefix):
            shutil.copy(file, root / "usr" / "local" / "lib" / file.name)
        else:
            _put(root, file)
    certificates = os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")
    for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", certificates):
        if Path(name).exists():
            _put(root, Path(name))
    for name in ("tmp", "root", "var/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    path = "/usr/local/bin:/usr/bin:/bin"
    return _Stage(
        root,
        environ={
            "PATH": path,
            "LD_LIBRARY_PATH": "/usr/local/lib",
            "HOME": "/root",
            "PIP_NO_COMPILE": "1",
        },
    )


def _run(stage: _Stage, *words: str, fixed: bool = False) -> str:
    """What a program says in a root, as the stage's user, in namespaces of its own."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    network = ["--net"] if fixed else []
    done = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", *network),
            *(sys.executable, "-c", _RUN, str(stage.root), stage.user, stage.folder),
            *("fixed" if fixed else "open", *words),
        ],
        env=passed | stage.environ | {"LD_LIBRARY_PATH": "/usr/local/lib"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def _copy(stage: _Stage, stages: dict[str, _Stage], rest: str) -> None:
    """Carry out COPY, of the repository or of another stage."""
    *options, target = shlex.split(rest)
    came = [each for each in options if each.startswith("--")]
    source = _ROOT
    for option in came:
        assert option.startswith("--from="), option
        source = stages[option.removeprefix("--from=")].root
    names = [each for each in options if not each.startswith("--")]
    place = stage.root / os.path.normpath(Path(stage.folder, target)).lstrip("/")
    for name in names:
        origin = source / name.lstrip("/")
        if origin.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source == _ROOT else None
            shutil.copytree(origin, place, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)


def _built(folder: Path) -> _Stage:
    """The last stage of the Dockerfile; an instruction that is not known here fails."""
    stages: dict[str, _Stage] = {}
    stage = _Stage(folder)
    for number, (word, rest) in enumerate(_instructions()):
        match word:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                assert image.startswith("python:"), image
                stage = stages[name or "last"] = _base(folder / (name or str(number)))
            case "WORKDIR":
                stage.folder = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(stage, stages, rest)
            case "RUN":
                _run(stage, "/bin/sh", "-c", rest)
            case "ENV":
                for each in shlex.split(rest):
                    name, _, value = each.partition("=")
                    stage.environ[name] = value.replace("$PATH", stage.environ["PATH"])
            case "USER":
                stage.user = rest
            case "VOLUME":
                stage.volumes.append(rest)
            case "ENTRYPOINT" | "CMD" | "STOPSIGNAL" | "HEALTHCHECK":
                words = rest[rest.index("[") :] if "[" in rest else json.dumps([rest])
                stage.words[word] = json.loads(words)
            case _:
                pytest.fail(f"{word} is not known here")
    return stage


def test_the_steps_make_what_runs(tmp_path: Path) -> None:
    """Built, it has no pip and nothing that its user may write but the volume; it starts, is
    healthy, takes an event, and ends by its signal with 0, and then it is not healthy."""
    if os.geteuid() != 0 or sys.platform != "linux" or shutil.which("unshare") is None:
        required("root, and unshare (Debian: util-linux)")
    if subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], check=False
    ).returncode:
        required("the right to make namespaces (CAP_SYS_ADMIN)")
    image = _built(tmp_path)
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
    said = json.loads(_run(image, "python", "-c", _TRIAL, about, str(number), fixed=True))
    assert said.pop("log")[0] in ("started", "unsigned")
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
