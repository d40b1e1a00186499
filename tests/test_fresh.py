"""Snippets run in an environment that has only what their page says to install (`make package`)."""

from __future__ import annotations

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from tests.test_docs import blocks, trimmed, typed

pytestmark = pytest.mark.long

_ROOT = Path(__file__).parent.parent
_SECONDS = 300
_PAGES = {
    "pip install .\n": ("docs/sdk.md", "docs/logging.md"),
    "pip install '.[otel]'": ("docs/opentelemetry.md",),
    "pip install '.[cli]'": (
        "README.md",
        "docs/commands.md",
        "docs/filter.md",
        "docs/shipped-schemas.md",
    ),
}
"""The command that a page, or the README for all pages, tells to type, and these pages."""


@pytest.mark.timeout(_SECONDS)
@pytest.mark.skipif("COLLECTOR_FRESH" not in os.environ, reason="make package installs anew")
@pytest.mark.parametrize("command", _PAGES)
def test_snippets_in_a_fresh_environment(command: str, tmp_path: Path) -> None:
    """Programs run without a warning, and commands give what the page shows."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    what = command.rsplit(maxsplit=1)[-1].strip("'")
    install = ["-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", what]
    subprocess.run([programs / "python", *install], cwd=_ROOT, check=True, timeout=_SECONDS)
    environ = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "100"}
    number = 0
    for page in _PAGES[command]:
        folder = tmp_path / page.replace("/", "-")
        folder.mkdir()
        for text in blocks(page, "python"):
            program: list[str | Path] = [programs / "python", "-W", "error", "-c", text]
            done = _run(program, folder, environ)
            assert done.returncode == 0, done.stdout
            number += 1
        for line, expected in (each for block in blocks(page, "console") for each in typed(block)):
            done = _run(["bash", "-c", line], folder, environ)
            assert (done.returncode, trimmed(done.stdout)) == (0, trimmed(expected))
            number += 1
    assert number


def _run(
    command: list[str | Path], folder: Path, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def test_each_page_says_what_to_install() -> None:
    """Itself, or the README for it; each page with snippets that are run is here, or needs a
    sidecar, which tests of its own start."""
    readme = (_ROOT / "README.md").read_text()
    for command, pages in _PAGES.items():
        for page in pages:
            text = (_ROOT / page).read_text()
            assert command in text or ("pip install" not in text and command in readme), page
    known = {page for pages in _PAGES.values() for page in pages}
    for path in (_ROOT / "docs").glob("*.md"):
        page = f"docs/{path.name}"
        if blocks(page, "python") or blocks(page, "console"):
            assert page in known or re.search(r"(?i)sidecar|recorder", path.read_text()), page
