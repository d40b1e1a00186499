"""Test mutants: ``python -m tests.mutants [ROOM…] [--sample N] [--seed N] [--jobs N]``.

First, a room's tests run once, to record which lines each test reaches. For each mutant, the tests
that reach its statement run, the quickest first, until one fails; then quick tests that reach its
file. If no test reaches it, as with code that runs at import, all tests of the room run. A mutant
that passes all of them has survived. ``survivors.toml`` lists the mutants that may survive, with
the reasons; any other survivor is printed in the same form. A mutant whose tests take too long
counts as found, and is also counted separately. ``--sample`` draws this many mutants of each room
at random, by a seed. Exit 1 if an unlisted mutant survives, or a listed one no longer exists.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple

from tests.mutants.mutations import Key, Mutant, mutants
from tests.mutants.rooms import ROOMS, Room
from tests.mutants.swapped import FOUND, SURVIVED, function_of
from tests.support.copies import ROOT, check_imported, copy_tree, environ
from tests.support.forkserver import Nursery

_SURVIVORS = Path(__file__).with_name("survivors.toml")
_LOADED = (
    "pytest",
    "hypothesis",
    "coverage",
    "pydantic",
    "msgspec",
    "orjson",
    "ruamel.yaml",
    "jinja2",
)
"""The libraries that tests need, loaded once before a process is forked for each mutant."""
_PYTEST = (
    "-q -x -p no:cacheprovider -p no:cov -p tests.mutants.plugin --hypothesis-seed=0"
    " --tb=short -o faulthandler_timeout=0 -W ignore::pytest.PytestAssertRewriteWarning"
).split()
_MEMORY = 8 << 30
"""The bytes of data that a mutant's process may have: a mutant may collect something without
end."""
_LEAST_SECONDS = 60.0
_TIMES = 20.0
"""A mutant is found if its tests take this many times longer than without it."""
_LEAST_CPU_SECONDS = 3.0
_TIMES_CPU = 4.0
"""The same limit for one test's CPU time, which does not grow with the load of the machine."""
_QUICK_SECONDS = 0.5
"""The time of the tests that run first. Most mutants are found by them, before the modules of the
other tests are loaded."""
_ROOM_SECONDS = 6 * 3600.0
"""The time limit for a room."""
_OTHERS_SECONDS = 5.0
"""The time limit for tests that reach only a mutant's file: they seldom find it."""
_SLOW = re.compile(r"Timeout \(>|Timeout\n")
"""What pytest prints about a test that took too long."""


class Score(NamedTuple):
    """The result for a room: how many mutants it has, were tested, survived, survived without being
    listed, and were found by a time-out; and the seconds that it took."""

    room: str
    mutants: int
    tested: int
    survivors: int
    unlisted: int
    slow: int
    seconds: int


class Tree:
    """A copy of the tree, with a process that forks the processes in which its tests run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        copy_tree(directory)
        check_imported(directory)
        self._nursery = Nursery(*_LOADED, root=directory)
        self._changes = 0

    def pytest(self, words: Sequence[str], seconds: float, **more: str) -> int:
        """Run pytest, and return its exit code. A test that takes too long fails, and its processes
        are killed. If that does not help, pytest is killed, and the code is negative."""
        arguments = self.directory / "arguments"
        arguments.write_text("\n".join(words), "utf-8")
        with Path(os.devnull).open("rb") as nothing, (self.directory / "said").open("wb") as said:
            streams = nothing.fileno(), said.fileno(), said.fileno()
            around = environ(self.directory) | more
            words = [*_PYTEST, f"--timeout={seconds:.0f}", f"@{arguments}"]
            child = self._nursery.bear("pytest", words, streams, self.directory, around)
        try:
            return child.wait(2 * seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def said(self) -> str:
        """Return pytest's last output."""
        return (self.directory / "said").read_text("utf-8", "replace")

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """Give a file another text for the block. Each text gets another modification time: Python
        tells by time and size whether its compiled file is current."""
        path = self.directory / file
        was = path.read_bytes()
        self._write(path, text.encode())
        try:
            yield
        finally:
            self._write(path, was)

    def _write(self, path: Path, text: bytes) -> None:
        self._changes += 1
        path.write_bytes(text)
        os.utime(path, (self._changes, self._changes))


class Reach:
    """Which tests reach which lines of a room's files, recorded in a run."""

    def __init__(self, noted: Mapping[str, Any]) -> None:
        self._seconds: dict[str, float] = noted["seconds"]
        self._lines: dict[str, dict[str, list[str]]] = noted["lines"]

    def tests(self, mutant: Mutant) -> Iterator[list[str]]:
        """Yield the tests that reach a mutant's statement, the quickest first; then the other tests
        that reach its file. One test may fill a cache whose content others show."""
        lines = self._lines.get(mutant.file, {})
        nearest = {test for line in mutant.lines for test in lines.get(str(line), ())} - {""}
        others = {test for tests in lines.values() for test in tests} - nearest - {""}
        for found in (nearest, others) if nearest else (self._seconds,):
            ordered = sorted(found, key=self._seconds.__getitem__)
            if found is others:
                ordered = ordered[: self._within(ordered, _OTHERS_SECONDS)]
            quick = self._within(ordered, _QUICK_SECONDS)
            yield ordered[:quick]
            yield ordered[quick:]

    @property
    def all(self) -> Sequence[str]:
        """All tests of the room."""
        return [*self._seconds]

    def _within(self, tests: Sequence[str], seconds: float) -> int:
        """Return how many tests, from the first, fit into ``seconds`` without a mutant."""
        times = accumulate(self._seconds[test] for test in tests)
        return sum(time <= seconds for time in times)

    def seconds(self, tests: Sequence[str]) -> float:
        """Return how long the tests take without a mutant."""
        return sum(self._seconds[test] for test in tests)

    def limits(self, tests: Sequence[str]) -> tuple[float, int]:
        """Return the time limit for tests with a mutant, and the limit of CPU seconds for each
        test."""
        longest = max((self._seconds[test] for test in tests), default=0.0)
        cpu = round(_LEAST_CPU_SECONDS + _TIMES_CPU * longest)
        return max(_LEAST_SECONDS, _TIMES * self.seconds(tests)), cpu


def files_of(name: str, taken: set[str]) -> dict[str, str]:
    """Return a room's files except ``taken`` ones, each with the function or class that is mutated;
    an empty text stands for the whole file."""
    entries = [entry.partition("::") for entry in ROOMS[name].files]
    scopes = {
        str(path.relative_to(ROOT)): scope for glob, _, scope in entries for path in ROOT.glob(glob)
    }
    files = {file: scopes[file] for file in sorted(scopes.keys() - taken)}
    taken.update(files)
    return files


def reach(tree: Tree, room: Room, files: Sequence[str]) -> Reach:
    """Run the tests of a room without a mutant. Raises ``SystemExit`` if one fails."""
    noted = tree.directory / "reach.json"
    paths = "\n".join(str(tree.directory / each) for each in files)
    more = {"COLLECTOR_REACH": str(noted), "COLLECTOR_MUTATED": paths}
    if tree.pytest(room.tests, _ROOM_SECONDS, **more):
        print(tree.said())
        raise SystemExit("These tests fail without a mutant.")
    return Reach(json.loads(noted.read_text("utf-8")))


def swapped(
    tree: Tree, room: Room, drawn: Sequence[Mutant], reached: Reach, jobs: int
) -> dict[Mutant, str]:
    """Return the outcome of the mutants in the body of a function, whose code is swapped in place.
    A mutant that survives this may still be found if it is present while modules load. Raises
    ``SystemExit`` if tests fail without a mutant."""
    texts = {file: (tree.directory / file).read_text("utf-8") for file in {m.file for m in drawn}}
    names = {each: function_of(texts[each.file], each.lines.start) for each in drawn}
    inside = [each for each in drawn if names[each]]
    asked = [_asked(reached, "", "", "", sorted(reached.all))]
    for each in inside:
        tests = [test for some in reached.tests(each) for test in some]
        module = each.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        asked.append(_asked(reached, module, names[each], each.text, tests))
    path = tree.directory / "swapped.json"
    path.write_text(json.dumps({"jobs": jobs, "mutants": asked}), "utf-8")
    if tree.pytest(room.tests, _ROOM_SECONDS, COLLECTOR_SWAPPED=str(path)):
        print(tree.said())
        raise SystemExit("The tests of this room cannot run in children.")
    lines = path.with_suffix(".codes").read_text("utf-8").splitlines()
    codes = dict(map(json.loads, lines))
    if codes[0] != SURVIVED:
        raise SystemExit("These tests fail in a child without a mutant.")
    came = {SURVIVED: "survived", FOUND: "found", None: "slow"}
    return {each: came[codes[at]] for at, each in enumerate(inside, 1) if codes[at] in came}


def _asked(
    reached: Reach, module: str, function: str, text: str, tests: Sequence[str]
) -> dict[str, Any]:
    """Return a mutant as ``tests.mutants.swapped`` reads it."""
    seconds, cpu = reached.limits(tests)
    found = {"module": module, "function": function, "text": text, "tests": tests}
    return found | {"seconds": seconds, "cpu": cpu}


def outcome(tree: Tree, mutant: Mutant, reached: Reach) -> str:
    """Return ``found`` if a test fails, ``slow`` if one takes too long, else ``survived``."""
    with tree.changed(mutant.file, mutant.text):
        for tests in filter(None, reached.tests(mutant)):
            seconds, cpu = reached.limits(tests)
            code = tree.pytest(tests, seconds, COLLECTOR_CPU=str(cpu))
            if code:
                return "slow" if code < 0 or _SLOW.search(tree.said()) else "found"
    return "survived"


def listed(every: Sequence[Mutant]) -> tuple[set[Mutant], list[Key]]:
    """Return the mutants that may survive, and the entries for their files that match no mutant. An
    entry without ``after`` matches each mutant of a statement."""
    document = tomllib.loads(_SURVIVORS.read_text("utf-8"))
    by_key: dict[Key, list[Mutant]] = defaultdict(list)
    for each in every:
        by_key[each.key].append(each)
        by_key[(*each.key[:3], None)].append(each)
    keys = [
        (file, each["scope"], each["before"], each.get("after"))
        for file in dict.fromkeys(each.file for each in every)
        for each in document.get(file, ())
    ]
    return {each for key in keys for each in by_key[key]}, [key for key in keys if not by_key[key]]


def entry(mutant: Mutant) -> str:
    """Return a survivor in the form of the list."""
    said = {"scope": mutant.scope, "before": mutant.before, "after": mutant.after, "reason": ""}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
    return "\n".join([f'[["{mutant.file}"]]', *lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Test mutants, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description="Test mutants.")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; or all")
    parser.add_argument("--sample", type=int, help="so many mutants of each room; or all")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at once")
    options = parser.parse_args(arguments)
    if unknown := set(options.rooms) - set(ROOMS):
        parser.error(f"there is no room {', '.join(sorted(unknown))}")
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    failed, taken = False, set[str]()
    scores = list[Score]()
    with TemporaryDirectory(prefix="mutants-") as directory:
        trees = [Tree(Path(directory).resolve() / str(number)) for number in range(options.jobs)]
        for name, room in ROOMS.items():
            files = files_of(name, taken)
            if options.rooms and name not in options.rooms:
                continue
            every = [
                mutant
                for file, scope in files.items()
                for mutant in mutants(file, (trees[0].directory / file).read_text("utf-8"), scope)
            ]
            allowed, stale = listed(every)
            for key in stale:
                print("listed, but no mutant:", *key, sep="\n  ")
            drawn = random.Random(options.seed).sample(
                every, min(options.sample or len(every), len(every))
            )
            start = monotonic()
            survivors = unlisted = slow = 0
            for each, came in _outcomes(trees, room, [*files], drawn, allowed):
                slow += came == "slow"
                survivors += came == "survived"
                if came == "survived" and each not in allowed:
                    unlisted += 1
                    print(entry(each), flush=True)
            counts = (len(every), len(drawn), survivors, unlisted, slow)
            scores.append(Score(name, *counts, round(monotonic() - start)))
            failed = failed or bool(stale or unlisted)
    print(table(scores))
    return 1 if failed else 0


def _outcomes(
    trees: Sequence[Tree],
    room: Room,
    files: Sequence[str],
    drawn: Sequence[Mutant],
    allowed: Container[Mutant],
) -> Iterator[tuple[Mutant, str]]:
    """Yield the mutants of a room with their outcomes."""
    reached = reach(trees[0], room, files)
    known = swapped(trees[0], room, drawn, reached, len(trees))
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def test(mutant: Mutant) -> str:
        came = known.get(mutant)
        if came and (came != "survived" or mutant in allowed):
            return came
        tree = free.get()
        try:
            return outcome(tree, mutant, reached)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        yield from zip(drawn, pool.map(test, drawn), strict=True)


def table(scores: Sequence[Score]) -> str:
    """Return the scores: the share of tested mutants that were found, with and without the listed
    ones. A slow mutant counts as found."""
    lines = [
        "room      mutants  tested  found  slow  listed  survive   score  without listed   seconds"
    ]
    numbers = zip(*(each[1:] for each in scores), strict=True)
    for each in (*scores, Score("all", *map(sum, numbers))):
        found, allowed = each.tested - each.survivors, each.survivors - each.unlisted
        lines.append(
            f"{each.room:9} {each.mutants:7} {each.tested:7} {found:6} {each.slow:5} {allowed:7}"
            f" {each.unlisted:8} {found / max(each.tested, 1):7.1%}"
            f" {found / max(each.tested - allowed, 1):15.1%} {each.seconds:9.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
