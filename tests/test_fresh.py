"""Snippets run in an environment that has only what their page says to install (`make nightly`)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.sdk.stores import rows
from tests.sdk.test_page import serve_the_app
from tests.sidecar.test_readme import follow
from tests.support.sidecar import started
from tests.test_docs import blocks, steps, trimmed

pytestmark = pytest.mark.long

_ROOT = Path(__file__).parent.parent
_SECONDS = 300
_PAGES = {
    "pip install .\n": ("docs/sdk.md",),
    "pip install . fastapi": ("docs/consent.md",),
    "pip install '.[otel]'": ("docs/opentelemetry.md",),
    "pip install '.[cli]'": (
        "README.md",
        "docs/filter.md",
        "docs/stores.md",
        "docs/migrating.md",
        "docs/schema.md",
        "docs/tutorial.md",
    ),
    "pip install '.[testing]' pytest": ("docs/sdk.md",),
    "pip install '.[user-agent]' fastapi uvicorn": ("docs/sdk.md",),
    "pip install '.[sidecar,grpc,signing]'": ("README.md", "docs/sidecar.md"),
}
"""The command that a page, or the README for all pages, tells to type, and these pages."""
_MARKERS = {
    "pip install '.[testing]' pytest": "test",
    "pip install '.[user-agent]' fastapi uvicorn": "app",
    "pip install '.[sidecar,grpc,signing]'": "serve",
}
"""The marker of the snippets that need what a command installs, where it is not ``run``."""
_EXPORTER = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
_ELSEWHERE = {
    "docs/sidecar.md": "tests/test_certificates.py",
    "docs/recording.md": "tests/recording/test_integration.py",
}
"""Pages whose snippets need servers, certificates or engines of their own, and the tests that run
them."""


class _Environment:
    """A new environment, and a folder for each page."""

    def __init__(self, folder: Path, *commands: str) -> None:
        venv.create(folder / "venv", with_pip=True)
        self._folder = folder
        self.programs = folder / "venv" / "bin"
        self._environ = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "COLUMNS": "100",
        }
        for command in commands:
            install = ["-m", "pip", "install", "--quiet", "--constraint", "constraints.txt"]
            packages = shlex.split(command)[2:]
            python = str(self.programs / "python")
            subprocess.run([python, *install, *packages], cwd=_ROOT, check=True, timeout=_SECONDS)

    def folder(self, page: str) -> Path:
        folder = self._folder / page.replace("/", "-")
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )

    def python(self, *arguments: str, folder: Path) -> None:
        """Run a program without a warning."""
        done = self.run([self.programs / "python", "-W", "error", *arguments], folder)
        assert done.returncode == 0, done.stdout


_fresh = pytest.mark.skipif(
    "COLLECTOR_FRESH" not in os.environ, reason="`make nightly` installs anew"
)


@_fresh
@pytest.mark.timeout(_SECONDS)
@pytest.mark.parametrize("command", [each for each in _PAGES if each not in _MARKERS])
def test_snippets_in_a_fresh_environment(command: str, tmp_path: Path) -> None:
    """Programs run without a warning, and commands give what the page shows."""
    fresh = _Environment(tmp_path, command)
    number = 0
    for page in _PAGES[command]:
        folder = fresh.folder(page)
        for text in blocks(page, "python"):
            fresh.python("-c", text, folder=folder)
            number += 1
        for line, expected in steps(page):
            done = fresh.run(["bash", "-c", line], folder)
            assert done.returncode == 0, done.stdout
            if page != "docs/stores.md":  # where the events of the demonstration have their moment
                assert trimmed(done.stdout) == trimmed(expected)
            number += 1
    assert number


@_fresh
@pytest.mark.timeout(_SECONDS)
def test_tests_in_a_fresh_environment(tmp_path: Path) -> None:
    """Tests that a page shows pass under pytest."""
    command = "pip install '.[testing]' pytest"
    fresh = _Environment(tmp_path, command)
    for page in _PAGES[command]:
        folder = fresh.folder(page)
        found = blocks(page, "python", "test")
        assert found
        for number, text in enumerate(found):
            (folder / f"test_{number}.py").write_text(text)
        fresh.python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)


@_fresh
@pytest.mark.timeout(_SECONDS)
def test_an_application_in_a_fresh_environment(tmp_path: Path) -> None:
    """Served and requested once, it stores one row with the client's system."""
    fresh = _Environment(tmp_path, "pip install '.[user-agent]' fastapi uvicorn")
    folder = fresh.folder("docs/sdk.md")
    serve_the_app(fresh.programs / "python", folder)
    (row,) = rows(folder / "telemetry.db", "web")
    assert (row["client.address"], row["os.type"]) == ("127.0.0.1", "linux")


@_fresh
@pytest.mark.timeout(_SECONDS)
def test_a_sidecar_in_a_fresh_environment(tmp_path: Path) -> None:
    """What pages send to a sidecar, and what they show of it."""
    command = "pip install '.[sidecar,grpc,signing]'"
    fresh = _Environment(tmp_path, command, _EXPORTER)
    for page in _PAGES[command]:
        folder = fresh.folder(page)
        with started(folder, command=[str(fresh.programs / "collector"), "serve"]) as sidecar:
            follow(page, sidecar, fresh.programs, folder)


@_fresh
@pytest.mark.timeout(_SECONDS)
def test_the_wheel_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=_ROOT, check=True, capture_output=True, timeout=_SECONDS)
    (wheel,) = tmp_path.glob("*.whl")
    fresh = _Environment(tmp_path, f"pip install '{wheel}[sidecar,grpc]'")
    folder = fresh.folder("anywhere")
    (folder / "events.ndjson").write_text('{"ip_address": "203.0.113.7", "chat": ["no"]}\n')
    said = {}
    for line in ("demo --events 200", "filter events.ndjson", "page -o site", "--help"):
        done = fresh.run([fresh.programs / "collector", *line.split()], folder)
        assert done.returncode == 0, done.stdout
        said[line.split()[0]] = done.stdout
    assert '"client.address":"203.0.113.7"' in said["filter"]
    assert "<html" in (folder / "site" / "index.html").read_text("utf-8")
    assert "/collector/docs/README.md" in re.sub(r"\s", "", said["--help"])
    (tutorial,) = fresh.programs.parent.rglob("collector/docs/tutorial.md")
    assert tutorial.read_bytes() == (_ROOT / "docs" / "tutorial.md").read_bytes()
    with started(folder, command=[str(fresh.programs / "collector"), "serve"]) as sidecar:
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}').status == 200


def test_each_page_says_what_to_install() -> None:
    """Itself, or the README for it; each page with snippets that are run is here, or has a test of
    its own."""
    readme = (_ROOT / "README.md").read_text()
    assert _EXPORTER in (_ROOT / "docs" / "sidecar.md").read_text()
    for command, pages in _PAGES.items():
        for page in pages:
            text = (_ROOT / page).read_text()
            assert (
                command in text
                or ("pip install" not in text and command in readme)
                or (page == "docs/sidecar.md" and command in readme)
            ), page
    known = {(page, _MARKERS.get(command, "run")) for command in _PAGES for page in _PAGES[command]}
    for path in [_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")]:
        page = str(path.relative_to(_ROOT))
        for marker in set(re.findall(r"<!-- (run|test|app|serve) -->\n```", path.read_text())):
            assert (page, marker) in known or page in _ELSEWHERE, page
    assert all((_ROOT / test).exists() for test in _ELSEWHERE.values())


def test_every_program_of_a_page_is_run() -> None:
    """Python stands under a marker, except where it is a part of something larger."""
    parts = {"docs/recording.md": 3, "docs/sinks.md": 1, "docs/stores.md": 1}
    for path in [_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")]:
        unmarked = re.findall(r"(?<! -->\n)```python", path.read_text())
        assert len(unmarked) == parts.get(str(path.relative_to(_ROOT)), 0), path
