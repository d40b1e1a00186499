"""Mutants of a function's body, without reloading modules.

One pytest process loads all tests of a room and forks a child for each mutant. The child gives the
function its changed code and runs the tests that reach it. Objects that were derived from the
function at import stay unchanged. So only a failing test counts; the caller tests the other mutants
again.
"""

from __future__ import annotations

import ast
import json
import os
import signal
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import CodeType, FunctionType
from typing import Any

import pytest

SURVIVED, FOUND = 0, 1
"""Exit codes of a child: all tests passed; one failed."""
_TIMES_WAITED = 4.0
"""A test fails if it takes this many times its limit of CPU seconds, for example in a sleep."""


def function_of(text: str, line: int) -> str:
    """Return the dotted name of the outermost function whose body contains a line; nothing if no
    body does, or if another function has the same name."""
    found, scope = "", ast.parse(text).body
    while scope:
        inner: list[ast.stmt] = []
        for node in scope:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.body[0].lineno <= line <= (node.end_lineno or 0):
                found = f"{found}.{node.name}".lstrip(".")
                if sum(getattr(each, "name", None) == node.name for each in scope) > 1:
                    return ""
                if not isinstance(node, ast.ClassDef):
                    return found
                inner = node.body
        scope = inner
    return ""


def swap(module: str, function: str, text: str) -> None:
    """Give a function, possibly a decorated one, the code that it has in a module's changed text.

    Raises ``ValueError`` if the code uses other variables of an outer scope."""
    loaded = import_module(module)
    code, found = compile(text, loaded.__file__ or "", "exec"), loaded
    for name in function.split("."):
        code = next(
            each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name
        )
        found = vars(found)[name]
    _plain(found).__code__ = code


def _plain(found: Any) -> FunctionType:
    """Return the function inside a decorator's result."""
    for kind, attribute in (
        (property, "fget"),
        (cached_property, "func"),
        ((staticmethod, classmethod), "__func__"),
    ):
        if isinstance(found, kind):
            found = getattr(found, attribute)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, FunctionType)
    return found


def run(session: pytest.Session, path: Path) -> None:
    """Read mutants from a file, and write a line of JSON beside it for each child that ends: the
    number of the mutant and the exit code; ``null`` if the child was killed."""
    said = json.loads(path.read_text("utf-8"))
    for module in {each["module"] for each in said["mutants"]} - {""}:
        import_module(module)
    items = {item.nodeid: item for item in session.items}
    running: dict[int, tuple[int, float]] = {}
    codes = path.with_suffix(".codes")
    with TemporaryDirectory(prefix="swapped-") as directory, codes.open("w") as file:
        for number, mutant in enumerate(said["mutants"]):
            while len(running) >= said["jobs"]:
                file.writelines(_ended(running))
                file.flush()
            if not (child := os.fork()):
                own = Path(directory, str(number))
                own.mkdir()
                _test(session, mutant, [items[each] for each in mutant["tests"]], own)
            running[child] = number, monotonic() + mutant["seconds"]
        while running:
            file.writelines(_ended(running))


def _ended(running: dict[int, tuple[int, float]]) -> Iterator[str]:
    """Yield the lines of children that have ended or were killed; then pause."""
    for child, (number, deadline) in list(running.items()):
        if monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _, status = os.waitpid(child, 0)
            del running[child]
            code = os.waitstatus_to_exitcode(status)
            yield f"{json.dumps([number, code if code >= 0 else None])}\n"
    sleep(0.005)


def _test(
    session: pytest.Session, mutant: dict[str, Any], items: list[pytest.Item], directory: Path
) -> None:
    """Run the tests of a mutant in a child, and end it."""
    from tests.mutants import plugin  # noqa: PLC0415 - which imports this module

    code = 2
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        session.config._tmp_path_factory._basetemp = directory  # type: ignore[attr-defined]
        plugin.cpu_seconds = mutant["cpu"]
        session.config._env_timeout = _TIMES_WAITED * mutant["cpu"]  # type: ignore[attr-defined]
        if mutant["function"]:
            swap(mutant["module"], mutant["function"], mutant["text"])
        for item, following in pairwise([*items, None]):
            assert item is not None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                code = FOUND
                break
        else:
            code = SURVIVED
    except KeyboardInterrupt:
        pass
    finally:
        os._exit(code)
