"""One test for many rows of data. Collecting, setting up and reporting a test for each row would
take longer than most rows take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any

import pytest

_Test = Callable[..., None]


def for_each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[_Test], _Test]:
    """Call the test with each row in turn, as the arguments with these names. An error carries a
    note that names its row.

    ``tmp_path`` is an empty folder for each row. All rows share the other fixtures.
    """
    listed = [row if isinstance(names, tuple) else (row,) for row in rows]
    given = names if isinstance(names, tuple) else (names,)
    if not listed:
        raise ValueError(f"no rows for {', '.join(given)}")

    def decorated(test: _Test) -> _Test:
        def run(**fixtures: Any) -> None:
            for number, row in enumerate(listed):
                here = dict(zip(given, row, strict=True))
                values = fixtures | here
                if "tmp_path" in fixtures:
                    values["tmp_path"] = fixtures["tmp_path"] / str(number)
                    values["tmp_path"].mkdir()
                try:
                    test(**values)
                except (Exception, pytest.fail.Exception) as error:
                    named = ", ".join(f"{name} = {value!r}" for name, value in here.items())
                    error.add_note(f"with {named}"[:500])
                    raise

        signature = inspect.signature(test)
        left = [each for name, each in signature.parameters.items() if name not in given]
        wrapper: Any = update_wrapper(run, test)
        del wrapper.__wrapped__
        wrapper.__signature__ = signature.replace(parameters=left)
        return run

    return decorated
