"""What tests do in a git repository; see the fixture of that name."""

from __future__ import annotations

import subprocess

__all__ = ["commit", "git"]


def git(*arguments: str) -> str:
    """What git says in the working directory."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(message: str = "a step") -> str:
    """Commit all that is there; the name of the commit."""
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")
