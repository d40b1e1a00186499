"""The counted pattern subset, against ``re`` and against plain sets of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from math import log2
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.schema.names import CLOSED, alphabet_bits
from collector.schema.pattern import MAX_BITS, Pattern, PatternFault
from tests.support.latency import within
from tests.support.rows import for_each


class Counted(NamedTuple):
    """A pattern as text, and the set of texts that it describes."""

    pattern: str
    texts: frozenset[str]


_LEAVES = st.sampled_from(
    [
        Counted("a", frozenset("a")),
        Counted("b", frozenset("b")),
        Counted("[ab]", frozenset("ab")),
        Counted("[a-c]", frozenset("abc")),
        Counted("[-a]", frozenset("-a")),
        Counted("[a\\]]", frozenset("a]")),
        Counted("\\.", frozenset(".")),
        Counted("-", frozenset("-")),
    ]
)


def _concatenated(left: frozenset[str], right: frozenset[str]) -> frozenset[str]:
    return frozenset(a + b for a in left for b in right)


def _repeated(part: Counted, low: int, high: int) -> Counted:
    texts: frozenset[str] = frozenset()
    for times in range(low, high + 1):
        power = frozenset([""])
        for _ in range(times):
            power = _concatenated(power, part.texts)
        texts |= power
    plain = "?" if (low, high) == (0, 1) else f"{{{low},{high}}}" if low < high else f"{{{low}}}"
    return Counted(f"({part.pattern}){plain}", texts)


def _larger(parts: st.SearchStrategy[Counted]) -> st.SearchStrategy[Counted]:
    bounds = st.sampled_from([(0, 1), (1, 1), (2, 2), (0, 2), (1, 3)])
    return (
        st.builds(
            lambda a, b: Counted(f"({a.pattern})({b.pattern})", _concatenated(a.texts, b.texts)),
            parts,
            parts,
        )
        | st.builds(
            lambda a, b: Counted(f"(?:{a.pattern}|{b.pattern})", a.texts | b.texts), parts, parts
        )
        | st.builds(lambda a: Counted(f"({a.pattern}|)", a.texts | {""}), parts)
        | st.builds(lambda a, bound: _repeated(a, *bound), parts, bounds)
    )


_PATTERNS = st.recursive(_LEAVES, _larger, max_leaves=5).filter(
    lambda counted: len(counted.texts) < 2000
)


@given(_PATTERNS)
def test_the_language_is_counted_exactly(counted: Counted) -> None:
    pattern = Pattern(counted.pattern)
    texts = list(pattern.texts())
    assert pattern.size == len(counted.texts) == len(texts)
    assert frozenset(texts) == counted.texts
    assert texts == sorted(texts)
    assert pattern.longest == max(map(len, counted.texts))
    assert all(map(pattern.fullmatch, texts))


_SHORT = ["".join(chars) for length in range(6) for chars in product("ab.-]", repeat=length)]


@given(_PATTERNS)
def test_matching_is_that_of_re(counted: Counted) -> None:
    pattern = Pattern(counted.pattern)
    expected = re.compile(counted.pattern, re.ASCII).fullmatch
    assert [text for text in _SHORT if pattern.fullmatch(text)] == list(filter(expected, _SHORT))


@for_each(
    "text",
    [
        *("a|b|", "x{0,3}", "(a?b?){2}", "(a|ab)(c|bc)?", "[0-9]{1,2}(\\.[0-9]{1,2})?"),
        *("[A-Z][a-z]{0,2}|-{3}", "a(b(c(d)?)?)?", "(?:aa|a){1,3}", "[a-cx-z0]", "[a-]", "[a-]b"),
        *("(?:(a)(b)(a)(b)(a)(b)){1,2}", "[\\\\\\-\\^]", "[.*+?(){}|$^]"),
        *("\\(\\)\\[\\]\\{\\}\\|\\?\\*\\+\\.\\^\\$\\\\\\-\\_", " ~ ", "a{2,2}b{1}"),
    ],
)
def test_the_subset_means_what_re_means(text: str) -> None:
    """Each listed text matches the regular expression."""
    pattern = Pattern(text)
    expected = re.compile(text, re.ASCII).fullmatch
    texts = set(pattern.texts())
    assert len(texts) == pattern.size
    assert all(map(expected, texts))
    alphabet = sorted({char for known in texts for char in known} | {"!"})
    longest = min(pattern.longest + 1, 4)
    for length in range(longest + 1):
        for chars in product(alphabet[:12], repeat=length):
            short = "".join(chars)
            assert pattern.fullmatch(short) == bool(expected(short)) == (short in texts)


@for_each(
    "text",
    [
        *["a*", "a+", ".", "a.b", "^a", "a$", "\\d", "\\w", "\\s", "\\b", "\\x41", "\\1", "\\n"],
        *["[^a]", "[\\d]", "[a", "[]", "[]a]", "[[:alpha:]]", "[z-a]", "[A-z]", "[0-z]", "[ -~]"],
        *"(a a) ( ) () a() ((){2}) (|) (?i)a (?P<n>a) (?=a) (?!a) (?<=a)b (?#a) (a)(?1)".split(),
        *"a{ a{} a{,2} a{1,} a{2,1} a{0} a{0,0} a{65} a{1,65} a{-1} a{1}{2} a?? a?{2}".split(),
        *("a{ 1}", "a{2}?", "?", "?a", "|?"),
        *["{2}", "]", "}", "\\", "a\\", "[a\\", "[a-\\", "é", "[é]", "\t", "a\n", "\\é", "", "|"],
        *["a{1,²}", "a{٢}", "a{1,9999999}", "(" * 33 + "a" + ")" * 33, "\\ "],
    ],
)
def test_what_is_outside_the_subset(text: str) -> None:
    with pytest.raises(PatternFault) as caught:
        Pattern(text)
    assert caught.value.code == "E116"
    assert len(str(caught.value)) > 10


def test_groups_side_by_side_are_not_nested() -> None:
    before = "(a)" * 31
    assert Pattern(before + "(" * 32 + "b" + ")" * 32).longest == 32
    with pytest.raises(PatternFault, match="nested"):
        Pattern(before + "(" * 33 + "b" + ")" * 33)


@for_each(("text", "advice"), [("a.b", "escape"), ("^a", "`\\^`"), ("a*", "{n,m}")])
def test_advice(text: str, advice: str) -> None:
    with pytest.raises(PatternFault, match=advice):
        Pattern(text)


def test_the_widest_pattern() -> None:
    assert Pattern("[0-9a-f]{16}").size == 1 << MAX_BITS
    for wider in ("[0-9a-f]{16}|x", "[0-9a-f]{0,16}", "[a-z]{14}"):
        with pytest.raises(PatternFault) as caught:
            Pattern(wider)
        assert caught.value.code == "E116"


def test_the_longest_pattern() -> None:
    assert Pattern("a{64}").longest == Pattern("(a{0,31}|b){2}c{0,2}").longest == 64
    for longer in ("a{64}b", "a{64}b?", "(a{0,33}){2}", "a" * 65, "b|(a{8}){8}a"):
        with pytest.raises(PatternFault) as caught:
            Pattern(longer)
        assert caught.value.code == "E116"


def test_the_largest_pattern() -> None:
    words = [f"{number:04}" for number in range(0, 10_000, 25)]
    assert Pattern("|".join(words)).size == 400
    most = "|".join(["[ab]{64}"] * 32)
    assert Pattern(most).size == 2**64
    tangled = "(a|b){0,30}a(a|b){14}"
    large = "|".join(f"[a-zA-Z0-9]{{0,{number}}}x[a-zA-Z0-9]{{8}}" for number in range(40, 55))
    for larger in (f"{most}|a", "|".join([*words, *words]) + "|12345" * 80, tangled, large):
        with pytest.raises(PatternFault) as caught:
            Pattern(larger)
        assert caught.value.code == "E116"


@pytest.mark.timed
@pytest.mark.parametrize(
    "text",
    [
        *("(a|a){32}b", "(a|aa){1,32}", "(a?){30}a{30}", "((a|b)?(a|c)?){8}d", "(a{1,8}){8}"),
        "(x?x?){16}y",
    ],
)
def test_no_pattern_backtracks(text: str) -> None:
    pattern = Pattern(text)
    with within(5):
        for hostile in ("a" * 64, "a" * 63 + "!", "x" * 32, "a" * 1_000_000, "\ud800" * 1_000_000):
            pattern.fullmatch(hostile)
            assert not pattern.fullmatch(f"{hostile}!")


@given(st.text())
def test_no_other_text_matches(text: str) -> None:
    pattern = Pattern("[A-Za-z0-9]{1,4}")
    assert pattern.fullmatch(text) == bool(re.fullmatch("[A-Za-z0-9]{1,4}", text, re.ASCII))


@given(st.text(alphabet="ab(){}[]|?,-^.*+\\01", max_size=16))
def test_accepted_means_compilable(text: str) -> None:
    try:
        pattern = Pattern(text)
    except PatternFault:
        return
    expected = re.compile(text, re.ASCII).fullmatch
    if pattern.size < 500:
        assert all(map(expected, pattern.texts()))
    assert [short for short in _SHORT if pattern.fullmatch(short)] == list(filter(expected, _SHORT))


def _letters(texts: Iterable[str]) -> set[str]:
    return {"".join(filter(str.isalpha, text)) for text in texts}


@given(_PATTERNS)
def test_letters_are_counted_exactly(counted: Counted) -> None:
    """The budget is the number of texts of letters; digits and punctuation are counted apart."""
    pattern = Pattern(counted.pattern)
    assert round(2**pattern.letter_bits) == len(_letters(counted.texts))


@given(_PATTERNS)
def test_what_can_spell(counted: Counted) -> None:
    spelled = _letters(counted.texts)
    if len(spelled) > CLOSED or alphabet_bits(spelled):
        assert Pattern(counted.pattern).can_spell


_LETTERED = st.lists(
    st.text(alphabet="abcdefghijklmnopXYZ01-", min_size=1, max_size=3), min_size=1, max_size=100
)


@given(_LETTERED, st.sampled_from(["{}", "-({})", "({})[0-9]{{2}}", "x({})?", "({}){{2}}"]))
def test_letters_of_lists_in_patterns(listed: list[str], around: str) -> None:
    pattern = Pattern(around.format("|".join(listed)))
    if pattern.size > 20_000:
        return
    spelled = _letters(pattern.texts())
    assert round(2**pattern.letter_bits) == len(spelled)
    if len(spelled) > CLOSED or alphabet_bits(spelled):
        assert pattern.can_spell


@for_each("text", ["[0-9a-f]{12}", "[0-9A-F]{2}(:[0-9A-F]{2}){5}", "[0-9]{19}"])
def test_digits_are_no_letters(text: str) -> None:
    """Up to twelve hexadecimal digits are no letters; of more, all count."""
    assert Pattern(text).letter_bits == 0
    assert not Pattern(text).can_spell
    assert Pattern("[0-9a-f]{13}").letter_bits == pytest.approx(log2(sum(6**n for n in range(14))))
    assert Pattern("[0-9a-f]{13}").can_spell
    assert Pattern("[0-9]{1,19}|[0-9]-[0-9]{1,9}").letter_bits == 0


@pytest.mark.timed
def test_a_pattern_too_tangled_for_its_letters_counts_whole() -> None:
    """It counts as if each text had letters of its own, in a fraction of a second."""
    tangled = Pattern("((a|b1)?){4,7}((ab?|0a)){2,7}[01]((ab?|0a)){4,4}([ab0]){3,7}x?")
    with within(5):
        assert tangled.letter_bits == log2(tangled.size)
        assert tangled.can_spell


def test_letters_with_other_characters_behind_them_are_a_choice() -> None:
    """A digit behind each letter hides no alphabet."""
    hidden = "|".join(f"{letter}{number}?" for number, letter in enumerate("abcdefghij"))
    pairs = "|".join(f"{letter}{letter}" for letter in "abcdefghij")
    for pattern in (f"({hidden})(k0?|l1?)", pairs, f"({pairs})[0-9]", "x[abc]y", "a0?|b1?|c2"):
        assert Pattern(pattern).can_spell
    for pattern in ("linux|windows|macos|ios|android|chromeos|tizen|webos|fuchsia|qnx", "x86|i386"):
        assert not Pattern(pattern).can_spell
