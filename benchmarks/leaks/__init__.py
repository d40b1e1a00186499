"""``python -m benchmarks leaks``: how much unlisted content gets through a program.

1. **Attacks** (``attacks``): each payload (chat, card number, name, …), in each encoding, in each
   slot of a clean event (``events``). A program's output is decoded and searched (``search``) for
   the payload, whole or in parts.
2. **Contenders** (``contenders``, ``measure``): the attacks go through Collector's filter and
   through what people use instead. Measured: the share of attacks that gets through, the listed
   values that arrive, and the bits that an event can carry.
3. **Bits** (``spelling``): a sender spells random messages with valid values to a running sidecar.
   Measured: the bits in the store, over the bits that the schema states.
4. **Channels** (``channels``): what a sender can spell beside the fields (order, number, time,
   refusals), sent to and read from a running sidecar (``sidecar``). A walk over every place
   (``places``) where a sidecar leaves anything checks that it belongs to a channel.
5. **Sweep** (``sweep``): a million attacks over every way into sidecars and SDKs, and a search for
   them in spool, store, files, log, answers and metrics.
"""
