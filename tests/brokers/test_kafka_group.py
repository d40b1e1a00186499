"""Up to where a group need not read again, whatever the order in which messages end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from collector.brokers.kafka_group import Offsets

_STEPS = some.lists(
    some.tuples(
        some.sampled_from(["take", "finish", "rewind", "forget"]),
        some.integers(0, 2),
        some.integers(0, 30),
    ),
    max_size=80,
)


@given(_STEPS)
def test_no_message_that_is_not_over_is_committed(steps: list[tuple[str, int, int]]) -> None:
    """Nor is one that is over asked for again, unless one before it is not."""
    offsets = Offsets(1000)
    taken: dict[int, list[int]] = {0: [], 1: [], 2: []}
    over: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    following = {0: 0, 1: 0, 2: 0}
    for name, partition, number in steps:
        if name == "take":
            following[partition] += 1 + number % 3  # a topic may have gaps
            taken[partition].append(following[partition])
            offsets.take(partition, following[partition])
        elif name == "finish":
            offsets.finish(partition, number)
            if number in taken[partition]:
                over[partition].add(number)
        elif name == "rewind":
            left = [each for each in taken[partition] if each not in over[partition]]
            at_hand = [each for each in taken[partition] if left and each >= left[0]]
            assert offsets.rewind(partition, number) == (number in at_hand)
            if number in at_hand:
                taken[partition] = [each for each in taken[partition] if each < number]
                following[partition] = number - 1
                over[partition] = {each for each in over[partition] if each < number}
        else:
            offsets.forget([partition])
            taken[partition], over[partition] = [], set()
        for each, position in offsets.positions().items():
            before = [one for one in taken[each] if one < position]
            assert set(before) <= over[each]
            left = [one for one in taken[each] if one not in over[each]]
            assert position == (left[0] if left and left[0] <= position else position)
    number_at_hand = 0
    for partition, all_ in taken.items():
        left = [each for each in all_ if each not in over[partition]]
        number_at_hand += len([each for each in all_ if left and each >= left[0]])
    assert offsets.room == 1000 - number_at_hand


def test_messages_end_in_any_order() -> None:
    """The position moves when the first one is over, past all that are then."""
    offsets = Offsets(4)
    for offset in (4, 5, 7):
        offsets.take(0, offset)
    offsets.take(1, 0)
    assert offsets.room == 0
    offsets.finish(0, 7)
    offsets.finish(0, 5)
    offsets.finish(2, 9)
    assert offsets.positions() == {}
    offsets.finish(0, 4)
    assert (offsets.positions(), offsets.room) == ({0: 8}, 3)
    offsets.take(0, 9)
    assert offsets.rewind(0, 9)
    assert not offsets.rewind(0, 9)
    offsets.finish(0, 9)
    assert (offsets.positions(), offsets.room) == ({0: 8}, 3)
    offsets.forget([0])
    assert offsets.positions() == {}
    assert repr(offsets) == "<Offsets, 1 at hand>"
