"""The counted pattern subset: regular expressions that are finite and whose language is counted.

Literals, ASCII classes, groups, alternation, ``?``, ``{n}`` and ``{n,m}``. No ``.``, ``*``, ``+``,
negated class, anchor, look-around, back-reference or class escape: the rest always describes a
finite set of texts. The set is turned into a deterministic automaton (Glushkov positions, subset
construction), which counts it exactly and also matches, with one look-up per character, so no
pattern can backtrack.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log2

from collector.schema.names import CLOSED, alphabet_bits

MAX_BITS = 64
"""The widest language a pattern may have, in bits (docs/schema.md)."""
_MAX_LENGTH, _MAX_TEXT = 64, 4096
_MAX_POSITIONS, _MAX_STATES = 2048, 4096
_MAX_WORK, _MAX_WALK, _MAX_SUBSETS = 10_000_000, 500_000, 100_000
_BRACES = re.compile(r"\{([0-9]{1,6})(?:,([0-9]{1,6}))?\}")
_SPECIAL = set(".*+?{}[]()|^$\\")
_LETTER_CLASS = 3
"""With a choice of this many letters at one place, whatever follows, a text can spell."""
_MAX_HEX = 12
"""The most hexadecimal digits in a text whose letters do not count as letters."""
_DIGITS = frozenset("0123456789")
_HEX = _DIGITS | frozenset("abcdefABCDEF")
_PRINTABLE = frozenset(map(chr, range(0x20, 0x7F)))

_Set = frozenset[int]


class PatternFault(ValueError):
    """E116: a pattern outside the subset, or one that matches too much."""

    code: str = "E116"


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a pattern in Glushkov's construction: whether it can be empty, where it starts and
    ends, and the length of its longest text."""

    nullable: bool
    first: _Set
    last: _Set
    longest: int


_EMPTY = _Part(True, frozenset(), frozenset(), 0)


@dataclass(slots=True)
class _Positions:
    """The character set of each position, and the positions that may follow it."""

    chars: list[frozenset[str]] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)

    def add(self, chars: frozenset[str]) -> _Part:
        if len(self.chars) >= _MAX_POSITIONS:
            raise PatternFault("the pattern is too large; shorten its repetitions")
        self.chars.append(chars)
        self.follow.append(set())
        here = frozenset([len(self.chars) - 1])
        return _Part(False, here, here, 1)

    def then(self, left: _Part, right: _Part) -> _Part:
        """Concatenate two pieces. Refusing too great lengths here bounds all the work."""
        longest = left.longest + right.longest
        if longest > _MAX_LENGTH:
            raise PatternFault(
                f"the pattern matches more than {_MAX_LENGTH} characters; shorten it"
            )
        for position in left.last:
            self.follow[position] |= right.first
        return _Part(
            left.nullable and right.nullable,
            left.first | right.first if left.nullable else left.first,
            left.last | right.last if right.nullable else right.last,
            longest,
        )


def _either(left: _Part, right: _Part) -> _Part:
    return _Part(
        left.nullable or right.nullable,
        left.first | right.first,
        left.last | right.last,
        max(left.longest, right.longest),
    )


class _Letters:
    """Texts of letters: whether they may end here, and what may follow each letter.

    ``size`` is their number; ``widest`` is the most letters at one place that have the same
    continuations.
    """

    __slots__ = ("is_end", "moves", "size", "widest")

    def __init__(self, is_end: bool, moves: Mapping[str, _Letters]) -> None:
        self.is_end, self.moves = is_end, moves
        self.size: int = is_end + sum(each.size for each in moves.values())
        following = Counter(map(id, moves.values())).values()
        below = (each.widest for each in moves.values())
        self.widest: int = max((*following, *below), default=0)

    def texts(self) -> Iterator[str]:
        """Yield the texts. For few of them."""
        if self.is_end:
            yield ""
        for char, each in self.moves.items():
            yield from (char + rest for rest in each.texts())


class _Reader:
    """Recursive descent over the pattern text; repetition reads its operand again and again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.positions = _Positions()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def alternatives(self) -> _Part:
        part = self.sequence()
        while self.peek() == "|":
            self.take()
            part = _either(part, self.sequence())
        return part

    def sequence(self) -> _Part:
        part = _EMPTY
        while self.peek() and self.peek() not in "|)":
            part = self.positions.then(part, self.repeated())
        return part

    def repeated(self) -> _Part:
        start = self.at
        part = self.atom()
        end = self.at
        low, high = self.bounds()
        if (low, high) == (1, 1):
            return part
        # Each repetition is a copy with positions of its own: read the operand once per copy.
        after = self.at
        out = _EMPTY
        for copy in range(high):
            if copy:
                self.at = start
                part = self.atom()
                self.at = end
            if copy >= low:
                part = replace(part, nullable=True)
            out = self.positions.then(out, part)
        self.at = after
        return out

    def bounds(self) -> tuple[int, int]:
        char = self.peek()
        if char and char in "*+":
            raise PatternFault(f"`{char}` has no upper bound; write {{n,m}}")
        if char == "?":
            self.take()
            low, high = 0, 1
        elif char == "{":
            low, high = self.braces()
        else:
            return 1, 1
        if self.peek() and self.peek() in "?*+{":
            raise PatternFault("a repetition cannot be repeated; put it in a group")
        return low, high

    def braces(self) -> tuple[int, int]:
        written = _BRACES.match(self.text, self.at)
        if written is None:
            raise PatternFault("a repetition is written {n} or {n,m}; escape a literal brace")
        self.at = written.end()
        bounds = int(written[1]), int(written[2] or written[1])
        if not bounds[0] <= bounds[1] <= _MAX_LENGTH or not bounds[1]:
            raise PatternFault(f"in {{n,m}}, n must not exceed m, and m must be 1 to {_MAX_LENGTH}")
        return bounds

    def atom(self) -> _Part:
        char = self.take()
        if char == "(":
            return self.group()
        if char == "[":
            return self.positions.add(self.char_class())
        if char == "\\":
            return self.positions.add(frozenset([self.escaped()]))
        if char in _SPECIAL:
            raise PatternFault(_refusal(char))
        if char not in _PRINTABLE:
            raise PatternFault(
                "a pattern has only printable ASCII characters; use a catalogue for others"
            )
        return self.positions.add(frozenset([char]))

    def group(self) -> _Part:
        if self.peek() == "?":
            if not self.text.startswith("?:", self.at):
                raise PatternFault("only plain groups (…) and (?:…) are allowed")
            self.at += 2
        self.depth += 1
        if self.depth > 32:
            raise PatternFault("groups are nested too deeply")
        part = self.alternatives()
        if self.take() != ")":
            raise PatternFault("a group must be closed")
        if not part.longest:
            raise PatternFault("a group matches nothing; delete it")
        self.depth -= 1
        return part

    def escaped(self) -> str:
        char = self.take()
        if char not in _PRINTABLE or char.isalnum() or char == " ":
            raise PatternFault("a backslash may only escape punctuation; write [0-9] for a digit")
        return char

    def char_class(self) -> frozenset[str]:
        chars: set[str] = set()
        if self.peek() == "^":
            raise PatternFault("a negated class is not allowed; list the allowed characters")
        while (char := self.take()) != "]":
            if char not in _PRINTABLE or char == "[":
                raise PatternFault(
                    "a class must end in `]`, and have only printable ASCII characters"
                )
            low = self.escaped() if char == "\\" else char
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.take()
                high = self.take()
                high = self.escaped() if high == "\\" else high
                if not low <= high or not _alike(low, high):
                    raise PatternFault(
                        "a range must go up, from digit to digit or between letters of one case"
                    )
                chars.update(map(chr, range(ord(low), ord(high) + 1)))
            else:
                chars.add(low)
        if not chars:
            raise PatternFault("a class must not be empty")
        return frozenset(chars)


def _alike(low: str, high: str) -> bool:
    """Return whether a range holds only characters that its author must have thought of."""
    return any(kind(low) and kind(high) for kind in (str.isdigit, str.islower, str.isupper))


def _is_hexadecimal(chars: list[str]) -> bool:
    """Return whether a class is made of all digits and of some letters up to F."""
    return len(chars) > len(_DIGITS) and _DIGITS.issubset(chars) and _HEX.issuperset(chars)


def _refusal(char: str) -> str:
    if char in "^$":
        return f"a pattern always matches the whole text; delete `{char}`"
    if char == ".":
        return "`.` would let any text through; list the allowed characters, or escape it"
    return f"`{char}` has no meaning here; escape it if you mean the character"


class Pattern:
    """A compiled pattern.

    ``size`` is the exact number of texts it matches, ``longest`` their greatest length. Raises
    ``PatternFault`` if the text is outside the subset or the language is too wide.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_TEXT:
            raise PatternFault("the pattern is too large; shorten it or write a catalogue")
        reader = _Reader(text)
        whole = reader.alternatives()
        if reader.at < len(text):
            raise PatternFault("a closing parenthesis has no opening one; escape it, or delete it")
        if not whole.longest:
            raise PatternFault("the pattern matches nothing")
        self.text = text
        self.longest: int = whole.longest
        self._moves: list[dict[str, int]] = []
        self._final: list[bool] = []
        self._build(reader.positions, whole)
        if self.size > 1 << MAX_BITS:
            raise PatternFault(f"the pattern matches more than 2^{MAX_BITS} texts; shorten it")

    def _build(self, positions: _Positions, whole: _Part) -> None:
        """Build states from sets of next positions (subset construction). State 0 is the start."""
        states: dict[tuple[_Set, bool], int] = {(whole.first, whole.nullable): 0}
        queue = [(whole.first, whole.nullable)]
        work = 0
        for ahead, final in queue:
            work += sum(
                len(positions.chars[place]) + len(positions.follow[place]) for place in ahead
            )
            if work > _MAX_WORK:
                raise PatternFault("the pattern is too complex to be counted; shorten it")
            targets: dict[str, set[int]] = {}
            for position in ahead:
                for char in positions.chars[position]:
                    targets.setdefault(char, set()).add(position)
            moves: dict[str, int] = {}
            reached: dict[_Set, int] = {}
            for char, taken in sorted(targets.items()):
                key = frozenset(taken)
                if key not in reached:
                    reached[key] = self._state(positions, whole, key, states, queue)
                moves[char] = reached[key]
            self._moves.append(moves)
            self._final.append(final)

    @staticmethod
    def _state(
        positions: _Positions,
        whole: _Part,
        taken: _Set,
        states: dict[tuple[_Set, bool], int],
        queue: list[tuple[_Set, bool]],
    ) -> int:
        ahead = frozenset().union(*(positions.follow[position] for position in taken))
        state = (ahead, not taken.isdisjoint(whole.last))
        if state not in states:
            if len(states) >= _MAX_STATES:
                raise PatternFault("the pattern is too complex to be counted; shorten it")
            states[state] = len(queue)
            queue.append(state)
        return states[state]

    def _backwards(self) -> Iterator[int]:
        """Order the states, each after all its successors (the automaton has no cycle)."""
        seen: set[int] = set()
        stack: list[tuple[int, bool]] = [(0, False)]
        while stack:
            state, done = stack.pop()
            if done:
                yield state
            elif state not in seen:
                seen.add(state)
                stack.append((state, True))
                stack.extend((target, False) for target in set(self._moves[state].values()))

    @cached_property
    def size(self) -> int:
        """Count the texts that the pattern matches."""
        counts: dict[int, int] = {}
        for state in self._backwards():
            ways = (counts[target] for target in self._moves[state].values())
            counts[state] = sum(ways, int(self._final[state]))
        return counts[0]

    @property
    def letter_bits(self) -> float:
        """Compute how much the letters of a text can say, in bits: texts that differ only in digits
        and punctuation count once. Up to ``_MAX_HEX`` hexadecimal digits do not count as letters.
        If the pattern is too complex for that, all texts count."""
        return log2(self.size if self._letters is None else self._letters.size)

    @property
    def can_spell(self) -> bool:
        """Whether the letters of a text can spell: more than ``CLOSED`` texts, or with a choice of
        three letters at one place, as in ``[a-z]`` or ``(a0?|b1?|c2?)``, or as a list of letters
        (``th|he|in|…``)."""
        found = self._letters
        if found is None or found.size > CLOSED:
            return True
        return found.widest >= _LETTER_CLASS or alphabet_bits(found.texts()) > 0

    @cached_property
    def _letters(self) -> _Letters | None:
        """Return the texts reduced to their letters, by determinising the automaton again; ``None``
        if that takes too long."""
        moves: list[dict[str, int]] = []
        silent: list[set[int]] = []
        for targets in self._spelled():
            moves.append({char: to for to, letters, _ in targets for char in letters})
            silent.append({to for to, _, has_others in targets if has_others})
        known: dict[frozenset[int], _Letters] = {}
        same: dict[object, _Letters] = {}

        work = 0

        def after(states: Iterable[int]) -> _Letters:
            nonlocal work
            reached, stack = set(states), [*states]
            while stack:
                new = silent[stack.pop()] - reached
                reached |= new
                stack += new
            key = frozenset(reached)
            work += len(key)
            if work > _MAX_SUBSETS:
                raise PatternFault("the pattern is too tangled to be counted")
            if key not in known:
                targets: dict[str, list[int]] = {}
                for state in key:
                    for char, to in moves[state].items():
                        targets.setdefault(char, []).append(to)
                found = {char: after(targets[char]) for char in sorted(targets)}
                is_end = any(self._final[state] for state in key)
                form = (is_end, tuple((char, id(each)) for char, each in found.items()))
                known[key] = same.setdefault(form, _Letters(is_end, found))
            return known[key]

        try:
            return after([0])
        except PatternFault:
            return None

    def _spelled(self) -> Iterator[list[tuple[int, str, bool]]]:
        """Yield for each state its successors, each with the letters that lead there, and whether
        other characters do. Up to ``_MAX_HEX`` hexadecimal digits do not count as letters."""
        grouped: list[dict[int, list[str]]] = []
        for moves in self._moves:
            targets: dict[int, list[str]] = {}
            for char, target in moves.items():
                targets.setdefault(target, []).append(char)
            grouped.append(targets)
        is_hex = [{to: _is_hexadecimal(chars) for to, chars in each.items()} for each in grouped]
        longest: dict[int, int] = {}
        for state in self._backwards():
            longest[state] = max(
                (longest[to] + its for to, its in is_hex[state].items()), default=0
            )
        exempts = longest[0] <= _MAX_HEX
        for state, each in enumerate(grouped):
            found = []
            for to, chars in each.items():
                is_exempt = exempts and is_hex[state][to]
                letters = "" if is_exempt else "".join(filter(str.isalpha, chars))
                found.append((to, letters, len(letters) < len(chars)))
            yield found

    def fullmatch(self, text: str) -> bool:
        """Return whether the whole text is in the language."""
        state, moves = 0, self._moves
        for char in text:
            if (target := moves[state].get(char)) is None:
                return False
            state = target
        return self._final[state]

    def texts(self) -> Iterator[str]:
        """Yield every text of the language, in order of its characters. For small languages."""
        stack = [(0, "")]
        while stack:
            state, text = stack.pop()
            if self._final[state]:
                yield text
            moves = sorted(self._moves[state].items(), reverse=True)
            stack.extend((target, text + char) for char, target in moves)

    def within(self, other: Pattern) -> bool:
        """Return whether the other language has every text of this one, by walking both automata.

        Also ``False`` if they are too complex to be walked in a fraction of a second.
        """
        seen, stack, work = {(0, 0)}, [(0, 0)], 0
        while stack:
            mine, its = stack.pop()
            if self._final[mine] and not other._final[its]:
                return False
            work += len(self._moves[mine])
            if work > _MAX_SUBSETS:
                return False
            moves = other._moves[its]
            for char, target in self._moves[mine].items():
                if char not in moves:  # every state leads to the end of some text
                    return False
                pair = (target, moves[char])
                if pair not in seen:
                    seen.add(pair)
                    stack.append(pair)
        return True
