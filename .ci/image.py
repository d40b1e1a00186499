"""Carry out the Dockerfile without Docker, and write what it makes as an OCI image layout:
``python .ci/image.py ARCHIVE``, as root on Linux.

Each stage is a fresh root with what the base image has and the steps need: this Python, a shell and
some of its tools, in namespaces of their own. The archive, an ``oci-archive`` to skopeo and podman,
has one layer. The same root makes the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
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


@dataclass
class Stage:
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


def _base(root: Path) -> Stage:
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
    return Stage(
        root,
        environ={
            "PATH": path,
            "LD_LIBRARY_PATH": "/usr/local/lib",
            "HOME": "/root",
            "PIP_NO_COMPILE": "1",
        },
    )


def run(stage: Stage, *words: str, fixed: bool = False) -> str:
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
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    return done.stdout


def _copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """Carry out COPY, of the repository or of another stage."""
    *options, target = shlex.split(rest)
    came = [each for each in options if each.startswith("--")]
    source = _ROOT
    for option in came:
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


def built(folder: Path) -> Stage:
    """The last stage of the Dockerfile; an instruction that is not known here fails."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for number, (word, rest) in enumerate(_instructions()):
        match word:
            case "FROM":
                _, _, name = rest.partition(" AS ")
                stage = stages[name or "last"] = _base(folder / (name or str(number)))
            case "WORKDIR":
                stage.folder = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(stage, stages, rest)
            case "RUN":
                run(stage, "/bin/sh", "-c", rest)
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
                raise ValueError(f"{word} is not known here")
    return stage


_MEDIA = "application/vnd.oci.image"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def layout(stage: Stage, archive: Path, version: str, epoch: int) -> str:
    """Write a stage as an OCI image layout in a tar archive; return the digest of its manifest."""
    layer = _tar(((path, str(path.relative_to(stage.root))) for path in _files(stage.root)), epoch)
    packed = gzip.compress(layer, 9, mtime=0)
    health = {"Test": ["CMD", *stage.words["HEALTHCHECK"]]}
    config = {
        "architecture": _MACHINES[platform.machine()],
        "os": "linux",
        "config": {
            "User": stage.user,
            "WorkingDir": stage.folder,
            "Env": [f"{name}={value}" for name, value in sorted(stage.environ.items())],
            "Entrypoint": stage.words["ENTRYPOINT"],
            "Cmd": stage.words["CMD"],
            "StopSignal": stage.words["STOPSIGNAL"][0],
            "Healthcheck": health,
            "Volumes": {volume: {} for volume in stage.volumes},
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs: list[bytes] = [packed, _json(config)]
    described = [_described(f"{_MEDIA}.layer.v1.tar+gzip", packed)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": _described(f"{_MEDIA}.config.v1+json", blobs[1]),
        "layers": described,
    }
    blobs.append(_json(manifest))
    entry = _described(manifest["mediaType"], blobs[2])
    entry["annotations"] = {"org.opencontainers.image.ref.name": version}
    index = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.index.v1+json", "manifests": [entry]}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in blobs}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), epoch
            tar.addfile(member, io.BytesIO(content))
    return str(entry["digest"])


def _files(root: Path) -> Iterator[Path]:
    """Everything of a root in order, but what was compiled and what a mount hid."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if "__pycache__" not in parts and not (parts[0] in ("proc", "dev", "tmp") and parts[1:]):
            yield path


def _tar(files: Iterator[tuple[Path, str]], epoch: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, name in files:
            member = tar.gettarinfo(path, name)
            member.mtime, member.uname, member.gname = epoch, "", ""
            if member.islnk():  # the second name of a file is a file of its own
                member.type, member.size = tarfile.REGTYPE, path.stat().st_size
            if member.isreg():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(media: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media, "digest": _digest(content), "size": len(content)}


if __name__ == "__main__":
    if os.geteuid() != 0 or sys.platform != "linux":
        sys.exit("an image is made as root, on Linux: each step runs in namespaces of its own")
    found = re.search(r'^version = "(.*)"', (_ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        sys.exit("pyproject.toml names no version")
    with tempfile.TemporaryDirectory() as folder:
        made = built(Path(folder))
        digest = layout(made, Path(sys.argv[1]), found[1], int(os.environ["SOURCE_DATE_EPOCH"]))
    print(digest)
