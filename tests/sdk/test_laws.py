"""The account law at every step: an admitted record is delivered, queued, spooled, or lost and
counted."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector.schema import load_schema
from collector.sdk import Account, Collector
from tests.sdk.accounts import ends
from tests.sdk.stores import addresses
from tests.support.deadline import WAIT_SECONDS

_SCHEMA = load_schema("conferencing")
_EXAMPLES = max(1, settings().max_examples // 10)
"""A tenth of other laws', as each of them opens files, and waits."""
_FOREVER = WAIT_SECONDS
_MOMENT = 0.02


class Steps(RuleBasedStateMachine):
    """Emit, flush, break the sink, repair it, close, and open again, in any order.

    The sink is a file of records. A link to nothing in its place breaks it; each takes the other's
    place in one step, as records are delivered meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path, self.hidden = self.folder / "t.ndjson", self.folder / "hidden.ndjson"
        self.numbers = iter(range(1 << 20))
        self.is_broken = False
        self.before: list[Account] = []
        self.lost_at_will = 0

    @initialize(
        queue=st.sampled_from([3, 1000]),
        oldest=st.booleans(),
        spooled=st.booleans(),
        batch=st.sampled_from([1, 4, 100]),
    )
    def begin(self, queue: int, oldest: bool, spooled: bool, batch: int) -> None:
        """Choose the settings."""
        self.queue, self.oldest, self.batch = queue, oldest, batch
        self.spool = self.folder / "spool" if spooled else None
        self.open()

    def open(self) -> None:
        """Open a new one on the same files."""
        self.telemetry = Collector(
            _SCHEMA,
            to=f"ndjson:///{self.path}",
            queue=self.queue,
            when_full="oldest" if self.oldest else "newest",
            batch=self.batch,
            interval=0.001,
            spool=self.spool,
        )

    @rule(number=st.integers(1, 9), sound=st.booleans())
    def emit(self, number: int, sound: bool) -> None:
        """Emit some events, valid or not, and remember the admitted ones."""
        for _ in range(number):
            at = next(self.numbers)
            event = {"ip": f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" if sound else "nowhere"}
            before = self.telemetry.tally()
            is_kept = self.telemetry.emit(event)
            after = self.telemetry.tally()
            assert after.admitted - before.admitted == sound
            assert after.lost["queue_full"] - before.lost["queue_full"] <= sound
            if not self.oldest:
                assert is_kept is (sound and after.lost == before.lost)

    @rule()
    def flush(self) -> None:
        """If the sink or the spool works, everything leaves memory."""
        is_flushed = self.telemetry.flush(_MOMENT if self.is_broken else _FOREVER)
        account = self.telemetry.tally()
        if not self.is_broken or self.spool:
            assert is_flushed or self.is_broken
        if is_flushed:
            assert account.queued == 0

    @rule()
    def fail(self) -> None:
        """Break the sink."""
        if not self.is_broken:
            self.hidden.hardlink_to(self.path)
            link = self.folder / "link"
            link.symlink_to(self.folder / "nothing")
            link.replace(self.path)
            self.is_broken = True

    @rule()
    def recover(self) -> None:
        """Repair the sink."""
        if self.is_broken:
            self.hidden.replace(self.path)
            self.is_broken = False

    @rule()
    def reopen(self) -> None:
        """Close in any state, and open the next one, which finds the records of the spool."""
        in_time = self.telemetry.close(_MOMENT if self.is_broken else _FOREVER)
        ends(self.telemetry)
        account = self.telemetry.tally()
        assert account.queued == 0
        assert in_time or self.is_broken
        assert not (in_time and account.lost["unsent"])
        assert self.telemetry.emit({"ip": "::1"}) is False
        assert self.telemetry.tally().lost["closed"] == 1
        self.before.append(account)
        self.recover()
        self.open()
        assert self.telemetry.tally().recovered == account.spooled

    @invariant()
    def everything_is_somewhere(self) -> None:
        """Check the law, and the bounds."""
        if not hasattr(self, "telemetry"):
            return
        account = self.telemetry.tally()
        assert account.received == account.admitted + sum(account.rejected.values())
        lost = sum(account.lost.values())
        counted = account.delivered + account.queued + account.spooled + lost
        assert account.admitted + account.recovered == counted
        assert 0 <= account.queued <= self.queue
        assert min(account.delivered, account.spooled, lost) >= 0

    def teardown(self) -> None:
        """Repair the sink: in the end the file has exactly the delivered records."""
        if hasattr(self, "telemetry"):
            self.recover()
            assert self.telemetry.close(_FOREVER)
            found = addresses(self.path)
            accounts = [*self.before, self.telemetry.tally()]
            assert len(found) == len(set(found))
            assert sum(account.delivered for account in accounts) <= len(found)
            unsent = sum(account.lost["unsent"] for account in accounts)
            assert len(found) <= sum(account.delivered for account in accounts) + unsent
        shutil.rmtree(self.folder)


Steps.TestCase.settings = settings(max_examples=_EXAMPLES, stateful_step_count=12)
TestSteps = Steps.TestCase
