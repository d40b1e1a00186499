"""Ask the workers of a running sidecar why events are rejected and fields dropped.

Each worker samples the events that it gets anyway (``filter.live_sample``), and sends counts over
closed vocabularies. The keeper checks their numbers and turns them into names.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.contracts import Tally
from collector.errors import DeliveryError
from collector.filter.sample_counts import OUTCOMES, Seen, pair
from collector.server.channel import framed
from collector.server.messages import MOST_SECONDS, ChannelError, LiveSeen, Look
from collector.server.worker_link import WorkerLink

_LATE_SECONDS = 2.0
"""How late a worker's answer may be."""


@dataclass
class _Question:
    """A question to the workers: those that have not answered, and what the others saw, by the name
    of the schema."""

    number: int
    waiting: set[WorkerLink]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    seen: dict[str, Seen] = field(default_factory=dict)
    answers: int = 0

    def let_go(self, link: WorkerLink) -> None:
        """Stop waiting for a worker."""
        self.waiting.discard(link)
        if not self.waiting:
            self.done.set()


class LiveExplain:
    """Asks workers, one question at a time."""

    def __init__(self, links: Sequence[WorkerLink]) -> None:
        self._links = links
        self._question: _Question | None = None
        self._asked = 0
        self._late: set[tuple[WorkerLink, int]] = set()
        """Workers that have not answered in time, each with the number of the question."""

    async def ask(self, seconds: float) -> tuple[int, Mapping[str, Seen]]:
        """Have the workers sample events for some seconds, at most a minute. Returns how many of
        them answered, and what they saw, by the name of the schema.

        Raises ``DeliveryError`` E519 while another question is open.
        """
        if self._question is not None:
            raise DeliveryError("E519", "another `explain --live` is under way; try again after it")
        seconds = min(max(seconds, 0.0), MOST_SECONDS)
        links = [link for link in self._links if link.is_ready]
        if not links:  # they are being replaced
            return 0, {}
        self._asked += 1
        question = self._question = _Question(self._asked, {*links})
        try:
            for link in links:
                link.channel.send(framed(Look(question.number, seconds)))
            async with asyncio.timeout(seconds + _LATE_SECONDS):
                await question.done.wait()
        except TimeoutError:
            pass  # the answers that have come count
        finally:
            self._question = None
            self._late.update((link, question.number) for link in question.waiting)
        return question.answers, question.seen

    def take(self, link: WorkerLink, message: LiveSeen) -> None:
        """Take a worker's answer; ignore a late one. Raises ``ChannelError`` for an answer without
        a question, and for impossible numbers."""
        if (link, message.number) in self._late:
            self._late.remove((link, message.number))
            return
        question = self._question
        if question is None or link not in question.waiting or message.number != question.number:
            raise ChannelError
        if len({counts.schema for counts in message.schemas}) < len(message.schemas):
            raise ChannelError
        for counts in message.schemas:
            name, seen = link.code.read_seen(counts)
            question.seen[name] = question.seen[name] + seen if name in question.seen else seen
        question.answers += 1
        question.let_go(link)

    def forget(self, link: WorkerLink) -> None:
        """Stop waiting for a worker that has ended."""
        self._late = {each for each in self._late if each[0] is not link}
        if self._question is not None:
            self._question.let_go(link)


def explained(
    before: Mapping[str, Tally], after: Mapping[str, Tally], seen: Mapping[str, Seen]
) -> dict[str, dict[str, Any]]:
    """Return by schema what became of all events between two moments, and what was seen in the
    sampled ones: ``fields`` has the outcomes of each field, with the JSON type and the number of
    events."""
    found = {}
    for name, now in after.items():
        earlier, sample = before.get(name, Tally()), seen.get(name, Seen())
        found[name] = {
            "received": now.received - earlier.received,
            "admitted": now.admitted - earlier.admitted,
            "rejected": dict(now.rejected - earlier.rejected),
            "looked_at": sample.events,
            "verdicts": {name: times for name, times in sample.verdicts.items() if times},
            "fields": {name: _outcomes(each) for name, each in sample.fields.items()},
        }
    return found


def _outcomes(counts: Counter[int]) -> list[dict[str, Any]]:
    pairs = sorted((OUTCOMES.index(pair(each)[0]), each) for each in counts if counts[each])
    return [
        {"outcome": pair(each)[0], "type": pair(each)[1] or None, "events": counts[each]}
        for _, each in pairs
    ]
