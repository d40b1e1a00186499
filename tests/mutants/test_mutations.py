"""What mutants change, which place they name, and what they leave alone."""

from __future__ import annotations

import pytest

pytest.importorskip("cosmic_ray", reason="cosmic-ray is not here: `make mutants` installs it")

from tests.mutants.__main__ import Score, entry, table
from tests.mutants.mutations import mutants

_TEXT = '''\
"""Sizes."""

MOST: int = 8


@dataclass(frozen=True)
class Body:
    def may(self, size: int | None, *, more: bool) -> bool:
        found: int | None = size
        if found in self.seen or not found:
            return found <= MOST
        self.seen.add(found)
'''


def test_small_changes_of_what_has_an_effect() -> None:
    """Each change occurs once, with the function and lines of its statement. Annotations and
    assertions stay."""
    found = {(each.scope, each.before, each.after, *each.lines) for each in mutants("a.py", _TEXT)}
    test = "if found in self.seen or not found:"
    call, result = "self.seen.add(found)", "return found <= MOST"
    assert found == {
        ("", "MOST: int = 8", "MOST: int = 9", 3),
        ("", "MOST: int = 8", "MOST: int = 7", 3),
        ("Body", "@dataclass(frozen=True)", "", 6, 7),
        ("Body.may", "found: int | None = size", "pass", 9),
        ("Body.may", test, "if not found in self.seen or not found:", 10),
        ("Body.may", test, "if found not in self.seen or not found:", 10),
        ("Body.may", test, "if found in self.seen and not found:", 10),
        ("Body.may", test, "if found in self.seen or  found:", 10),
        ("Body.may", result, "return found < MOST", 11),
        ("Body.may", result, "return found > MOST", 11),
        ("Body.may", result, "return None", 11),
        ("Body.may", call, "pass", 12),
    }


def test_one_class_of_a_file() -> None:
    """The class has its own mutants and its methods'; no other class has any."""
    found = {
        each.scope for each in mutants("a.py", f"{_TEXT}\n\nclass BodyOf:\n    a = 1\n", "Body")
    }
    assert found == {"Body", "Body.may"}
    assert not mutants("a.py", _TEXT, "Bod")


def test_a_survivor_is_printed_as_it_is_listed() -> None:
    """The table counts the listed ones separately."""
    first = mutants("a.py", _TEXT)[0]
    said = (
        '[["a.py"]]\nscope = ""\nbefore = "MOST: int = 8"\nafter = "MOST: int = 7"\nreason = ""\n'
    )
    assert entry(first) == said
    lines = table([Score("a", 100, 20, 4, 1, 2, 7), Score("b", 10, 0, 0, 0, 0, 1)]).splitlines()
    assert lines[1].split() == ["a", "100", "20", "16", "2", "3", "1", "80.0%", "94.1%", "7"]
    assert lines[-1].split() == ["all", "110", "20", "16", "2", "3", "1", "80.0%", "94.1%", "8"]
