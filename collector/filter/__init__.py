"""Untrusted bytes in, minimised records out: the only room that parses events.

How it works:

1. **Plan** (``plan``). A schema is compiled for a set of granted purposes and a day: columns with
   their paths and conditions, names of content, ways to lists of records.
2. **Shape** (``shape``). A plan has one struct type for events that are objects, and one for those
   that are lists. It names only what the plan reads; all other members are skipped as bytes. It
   holds content, withheld values and lists of records undecoded, so that only their presence is
   known.
3. **Decoders** (``decode``, ``otlp``). Each form of input fills the struct: JSON texts, Python
   mappings, and the attributes of OpenTelemetry, which JSON, protobuf and the objects of an SDK
   give as a mapping. A value of the wrong type arrives as something that no kind reads, and costs
   its field. If any part of a text cannot be decoded, the whole text is malformed.
4. **Judge** (``judge``). One function, which is generated for a plan, takes structs and appends to
   three lists: records, codes of dropped fields and of content, and reasons of rejections. It
   decides ``missing_required``, ``consent_withheld``, ``nothing_admitted`` and ``not_selected``.
   ``collector schema show --code`` prints it.
5. **Context**. The elements and documents around a record, the scope and resource of an item, and
   the sender of a request are contexts; the judge makes these too. The event's own value counts
   first, then that of the nearest context.
6. **Router** (``router``). It finds the events in a payload, the plan that the choices in an event
   ask for (``event_consent``), and the records in a document (``records``), all within bounds
   (``text``). JSON texts and Python objects take the same path: a ``Form`` says how to read them.
7. **Admission** (``admission``). The three lists become records as NDJSON, and a tally.

``Filter`` (``run``) has a method for each form of input, and compiles its plans. If a call raises,
the frames of the exception hold nothing of an event (``frames``). ``explain`` is the same judge
with a listener. ``live_sample`` runs it on a sample of the events that a sidecar receives, and
keeps counts of closed vocabularies (``sample_counts``). A record of an SDK is an event whose
members have the names of fields (``sdk_records``): the judge decides what it becomes, with kinds
that accept only what was canonical in its minute. Lines exactly as a filter writes them are checked
column by column instead (``columns``); the keeper checks batches of a worker in the same way
(``recheck``).

To read it in twenty minutes: ``plan``, ``judge``, ``router``. ``tests/filter/reference.py`` states
the same rules again, in plain code.
"""

from __future__ import annotations

from collector.filter.admission import Admission
from collector.filter.run import Filter

__all__ = ["Admission", "Filter"]
