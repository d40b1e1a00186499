"""What could not be read shows nothing, and is told with what to do."""

from __future__ import annotations

from typing import get_args

from collector.claims.document import Check, load_claims
from collector.claims.findings import ClaimFinding, unread, verdict
from collector.errors import Cause, DeliveryError
from tests.support.rows import for_each


@for_each("cause", get_args(Cause))
def test_a_sink_that_cannot_be_read(cause: Cause) -> None:
    """It is open, names the sink and the server's code, and never the server's own text."""
    found = unread("lake", DeliveryError("E514", "lake: canary of a text", cause, "HTTP 403"))
    assert (found.is_open, bool(found.advice)) == (True, True)
    assert "`lake`" in found.message
    assert "HTTP 403" in found.message
    assert "canary" not in str(found)


def test_a_claim_holds_if_all_its_checks_ran() -> None:
    """A check that did not run, or that found what is open, leaves it unproven; a note does not."""
    note, is_open = ClaimFinding("a", is_note=True), ClaimFinding("b", is_open=True)
    for claim in load_claims().values():
        for check in claim.checks:
            found: dict[Check, tuple[ClaimFinding, ...] | None] = dict.fromkeys(claim.checks, ())
            assert verdict(claim, found | {check: (note,)}) == "holds"
            assert verdict(claim, found | {check: None}) == "unproven"
            assert verdict(claim, found | {check: (is_open,)}) == "unproven"
            assert verdict(claim, found | {check: (is_open, ClaimFinding("c"))}) == "broken"
            del found[check]
            assert verdict(claim, found) == "unproven"
