"""The package as users meet it: its names, its documentation, its missing dependencies."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from collector import ConfigError, testing
from collector.testing import canaries
from tests.support.programs import STRICT, script
from tests.support.raising import raises
from tests.support.rows import for_each

_DOCUMENT = Path(__file__).parents[2] / "docs" / "sdk.md"
_BLOCKS = re.findall(r"<!-- test -->\n```python\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)


def test_the_names_are_these() -> None:
    """What is public is listed once, exists, and is documented."""
    assert dir(testing) == sorted(testing.__all__)
    assert testing.__all__ == ["Hit", "assert_noninterference", "canaries", "scan"]
    for name in testing.__all__:
        assert inspect.getdoc(getattr(testing, name)), name


def test_there_is_nothing_else() -> None:
    """An unknown name is an ``AttributeError``, as of any module."""
    with pytest.raises(AttributeError):
        testing.helpers  # noqa: B018


def test_without_hypothesis_only_canaries_work() -> None:
    program = """
import sys
sys.modules["hypothesis"] = None
from collector import ConfigError
from collector.testing import canaries, scan
assert scan(sys.argv[1], canaries()) == []
try:
    from collector.testing import assert_noninterference
except ConfigError as error:
    assert error.code == "E201" and "data-minimisation-collector[testing]" in str(error)
else:
    raise SystemExit("it was imported")
"""
    script(program, _DOCUMENT, environ=STRICT)


@pytest.mark.long  # `tests/test_fresh.py` runs them as well, from the wheel
@for_each("block", _BLOCKS)
def test_the_examples_of_the_documentation_pass(block: str, tmp_path: Path) -> None:
    """Each example holds a test, which is run."""
    names: dict[str, object] = {}
    exec(compile(block, str(_DOCUMENT), "exec", dont_inherit=True), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    for test in tests:
        assert callable(test)
        test(*[tmp_path] * ("tmp_path" in inspect.signature(test).parameters))


def test_the_documentation_names_all_there_is() -> None:
    """Every public function is in docs/sdk.md."""
    text = _DOCUMENT.read_text()
    assert len(_BLOCKS) >= 2
    assert all(
        f"{name}(" in text or f"`{name}`" in text for name in testing.__all__ if name != "Hit"
    )


def test_canaries_are_different_and_recognisable() -> None:
    first, second = canaries(200), canaries(200)
    assert len(set(first + second)) == 400
    for listed in (first, second):
        assert len({canary[:15] for canary in listed}) == 1
        assert all(re.fullmatch(r"canary-[0-9a-f]{8}-[0-9a-f]{8}", canary) for canary in listed)


def test_no_canaries_cannot_be_asked_for() -> None:
    """Nothing planted would be nothing found."""
    with raises("E107", ConfigError):
        canaries(0)
