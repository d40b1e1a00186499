"""``python -m benchmarks leaks``: how much of what nobody listed gets through a program.

1. **Attacks** (``attacks``): each payload (chat, card number, name, …), in each encoding, in each
   slot of a clean event (``events``). Whatever a program lets out is decoded and searched
   (``search``) for the payload, whole or in parts.
2. **Contenders** (``contenders``, ``measure``): the attacks go through Collector's filter and
   through what people use instead. Measured: the share of attacks that comes through, the listed
   values that arrive, and the bits that an event can bring over.
3. **Bits** (``spelling``): a sender spells random messages with valid values to a running sidecar;
   what the store has, over what the schema states.
4. **Channels** (``channels``): what it spells beside the fields (order, number, time, refusals),
   each sent to and read from a running sidecar (``sidecar``), and a walk over every place
   (``places``) where a sidecar leaves anything: each belongs to a channel.
5. **Sweep** (``sweep``): a million attacks over every way into sidecars and SDKs, looked for in
   spool, store, files, log, answers and metrics.
"""
