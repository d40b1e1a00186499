"""The command line. ``main`` is the entry point, and the only place that decides exit codes.

0 fine · 1 a check failed · 2 usage · 65 input refused · 75 not now: a later start may succeed · 78
a fault in a schema or a setting, which a restart does not repair.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from collector.cli.health import is_healthy, named_directory
from collector.cli.stdout import ReaderGoneError
from collector.errors import (
    CollectorError,
    ConfigError,
    DeliveryError,
    InputError,
    NotNow,
    SchemaError,
    UsageError,
)
from collector.extras import require

__all__ = ["main", "reexec", "switches"]

_HARMLESS = frozenset(
    """
    PYTHON PYTHONPATH PYTHONHOME PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUSERBASE
    PYTHONHASHSEED PYTHONUTF8 PYTHONIOENCODING PYTHONCOERCECLOCALE PYTHONUNBUFFERED
    PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONOPTIMIZE PYTHON_GIL PYTHON_CPU_COUNT
    """.split()
)
_OTHERS = ("LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_PROFILE", "LD_PROFILE_OUTPUT", "MALLOC_TRACE")
_INTERRUPTED = 130
_BUG = 70
_LATER = 75
_FAULT = 78
_SERVICES = (["serve"], ["recording", "serve"])
"""The commands that a service manager starts."""


def main() -> NoReturn:
    """Run the command line and exit. No exception leaves it. Only the texts of our own exceptions
    are printed, because they hold no values."""
    if _is_service():
        reexec()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # they would see values, and load slowly
    if (code := _answered_at_once(sys.argv[1:])) is not None:
        sys.exit(code)
    try:
        _app()()
        code = 0
    except CollectorError as error:
        print(error, file=sys.stderr)
        code = exit_code(error)
    except ReaderGoneError:
        _drop_output()
        code = 0
    except OSError as error:
        code = _refused_by_system(error)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: its text might be data
        _print_bug(error)
        code = _BUG
    sys.exit(code)


def _is_service() -> bool:
    return sys.argv[1:2] in _SERVICES or sys.argv[1:3] in _SERVICES


def _answered_at_once(words: list[str]) -> int | None:
    """Answer a command that needs no library of the command line, and return its exit code;
    ``None`` for any other command."""
    if words[:1] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 - loads slowly

        print(f"collector {version('data-minimisation-collector')}")
        return 0
    if words[:2] == ["status", "--quiet"] and (data := named_directory(words[2:])) is not None:
        return 0 if is_healthy(data) else 1
    return None


def _drop_output() -> None:
    """Keep the interpreter from flushing unwritable output at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused_by_system(error: OSError) -> int:
    """Report an error of the system about a path or the output. Any other error is a bug."""
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        message = "the path of a file is too long, or its links lead in a circle; name another"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        _drop_output()
        full = NotNow("E203", "the output cannot be written any further; is the disk full?")
        print(full, file=sys.stderr)
        return exit_code(full)
    else:
        _print_bug(error)
        return _BUG
    refusal = ConfigError("E203", message)
    print(refusal, file=sys.stderr)
    return exit_code(refusal)


def _app() -> Callable[[], None]:
    require("the command line", "cli", "typer", "rich")
    from collector.cli.app import run  # noqa: PLC0415 - typer and rich are that extra

    return run


def exit_code(error: CollectorError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, InputError):
        return 2 if isinstance(error, UsageError) else 65
    if isinstance(error, SchemaError | ConfigError):
        return _LATER if error.may_pass else _FAULT
    if isinstance(error, DeliveryError) and not error.may_pass:
        return _FAULT
    return _LATER if _is_service() else 1


def _print_bug(error: Exception) -> None:
    """Print where it happened, without the message and without any value."""
    print(
        f"collector failed unexpectedly ({type(error).__name__}); please report:", file=sys.stderr
    )
    for frame in traceback.extract_tb(error.__traceback__):
        print(f"  {frame.filename}:{frame.lineno} in {frame.name}", file=sys.stderr)


def reexec() -> None:
    """Restart the interpreter without environment variables that leak or hang, if there are some.

    Python reads these switches before any code of ours runs: to write of each import or allocation,
    to keep a map of its functions in ``/tmp``, or to wait for commands where it should end. They
    cannot be taken back then; the same process, started again without them, never had them.
    """
    found = switches(os.environ)
    if found and sys.executable:
        clean = {name: value for name, value in os.environ.items() if name not in found}
        with suppress(OSError):
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)  # noqa: S606


def switches(environ: Iterable[str]) -> frozenset[str]:
    """Return the variables to remove: all that Python reads, except those known as harmless."""
    return frozenset(
        name
        for name in environ
        if name in _OTHERS or (name.startswith("PYTHON") and name not in _HARMLESS)
    )
