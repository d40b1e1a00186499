"""The sidecar's interpreter begins afresh where the environment has switched on too much.

Python reads these switches before any code of ours runs: to write of each import or allocation, to
keep a map of its functions in ``/tmp``, or to wait for commands where it should end. They cannot be
taken back then; the same process, started again without them, never had them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["begin_afresh", "switches"]

_HARMLESS = frozenset(
    """
    PYTHONPATH PYTHONHOME PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUSERBASE
    PYTHONHASHSEED PYTHONUTF8 PYTHONIOENCODING PYTHONCOERCECLOCALE PYTHONUNBUFFERED
    PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONOPTIMIZE PYTHON_GIL PYTHON_CPU_COUNT
    """.split()
)
_OTHERS = ("LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_PROFILE", "LD_PROFILE_OUTPUT", "MALLOC_TRACE")


def begin_afresh() -> None:
    """Run the same command in this process again, without such switches; else return."""
    found = switches(os.environ)
    if found and sys.executable:
        clean = {name: value for name, value in os.environ.items() if name not in found}
        with suppress(OSError):
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)  # noqa: S606


def switches(environ: Iterable[str]) -> frozenset[str]:
    """The names that are switches: all that Python reads but what is known to do no harm."""
    return frozenset(
        name
        for name in environ
        if name in _OTHERS or (name.startswith("PYTHON") and name not in _HARMLESS)
    )
