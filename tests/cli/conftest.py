"""Git repositories, and one worker that all commands try."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from unittest.mock import patch

import pytest

from collector.claims.findings import Found
from collector.config import Config
from collector.server import sandbox_check
from tests.cli.repository import git
from tests.conftest import required

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git repository, where the test now is; no other settings count."""
    if which("git") is None:
        required("git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch", "main")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_worker() -> Iterator[None]:
    """Commands that check claims try one worker for each setting of the sandbox, and not one each:
    it takes a second, and ``tests/sandbox`` tries many."""
    try_worker, tried = sandbox_check.try_worker, dict[str, Found]()

    def try_once(config: Config) -> Found:
        if config.sandbox not in tried:
            tried[config.sandbox] = try_worker(config)
        return tried[config.sandbox]

    with patch.object(sandbox_check, "try_worker", try_once):
        yield
