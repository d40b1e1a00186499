"""The context of an event: the values around it, of which the nearest to it counts.

Around a record lie the elements of lists that hold it, the document around these, and the sender of
the request. A value of the event itself comes first. Contexts are evaluated once for all events in
them, and each includes what is around it in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from collector.contracts import Granted
from collector.filter.plan import Plan, SenderInfo


@dataclass(frozen=True, slots=True, repr=False)
class Context:
    """The values around events, by column: canonical in ``values``, or a code in ``drops``.

    ``lent`` are those of the sender: a record needs another one. So does a user agent that
    ``is_lent``. ``content`` are the categories that are present. The ``document`` (of the outermost
    context, the sender) lies in ``around``, and is read again under other plans; ``by_grant`` has
    its contexts under these.
    """

    values: tuple[Any, ...]
    drops: tuple[int | None, ...]
    lent: tuple[bool, ...]
    content: frozenset[int] = frozenset()
    agent: Any = None
    is_lent: bool = False
    document: Any = None
    around: Context | None = None
    by_grant: dict[Granted, Context] = field(default_factory=dict)


def sender_context(plan: Plan, sender: SenderInfo | None) -> Context:
    """Return the outermost context: what the request says of its sender, if that is used."""
    nothing = (None,) * len(plan.columns)
    no = (False,) * len(plan.columns)
    if sender is None:
        return Context(nothing, nothing, no)
    values: list[Any] = [*nothing]
    drops: list[int | None] = [*nothing]
    if sender.peer is not None:
        for column in plan.columns:
            if column.peer:
                value = values[column.index] = column.accept(sender.peer)
                drops[column.index] = column.codes["invalid_value"] if value is None else None
    lent = tuple(value is not None for value in values)
    agent = sender.agent if plan.user_agent else None
    return Context(
        *(tuple(values), tuple(drops), lent),
        agent=agent,
        is_lent=agent is not None,
        document=sender,
    )
