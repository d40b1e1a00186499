"""The channel between the keeper and a worker: messages over a pair of connected sockets.

A message is its length in four bytes and a MessagePack array whose first element is its number. The
records that a ``Put`` announces follow it. A worker may lie, so every length is checked before
memory is allocated for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain, count
from threading import get_ident
from typing import Generic, TypeVar

import msgspec

from collector.contracts import (
    CATEGORIES,
    DROPS,
    MOST_BYTES,
    REJECTIONS,
    Earlier,
    PendingBatch,
    RequestKey,
    Tally,
    Written,
    minute_number,
    minute_text,
)
from collector.errors import SpoolFull
from collector.filter.sample_counts import MOST_SEEN, VERDICTS, Seen
from collector.schema import Schema
from collector.server.messages import (
    Answers,
    ChannelError,
    Failed,
    FromKeeper,
    FromWorker,
    Put,
    PutBatch,
    PutTally,
    SeenCounts,
    Tried,
)
from collector.spool.write_queue import busy, merge, unwritable

_MOST_MESSAGE = 2 << 20
"""Bytes of a worker's message. Decoded, it may take twenty times as much."""
_MOST_OF_KEEPER = 64 << 20
_LENGTH_BYTES = 4
_AT_ONCE = 32
"""Messages of one worker that are handled before others have their turn."""
_MOST_SMALL, _MOST_GROUPED = 1 << 13, 1 << 18
"""Bytes of records in a request that may share a message, and in all that share one."""
_MOST_WAITING = 64 << 20
"""Bytes that the keeper has not taken yet. With more, senders are asked to retry."""
_M = TypeVar("_M")
_N = TypeVar("_N", bound=str)
_encoder = msgspec.msgpack.Encoder()


def framed(message: FromKeeper | FromWorker | Tried) -> bytes:
    """Encode a message with its length, but without the records of a ``Put``."""
    raw = _encoder.encode(message)
    return len(raw).to_bytes(_LENGTH_BYTES, "big") + raw


class Frames(Generic[_M]):
    """Takes bytes as they arrive, and yields messages, with the records of a ``Put``.

    ``take`` reserves memory for records, and returns the number of bytes. If it returns 0, there is
    no room: the records are dropped as they arrive, ``None`` takes their place, and the ``Put``
    loses its batches.
    """

    def __init__(
        self, decoder: msgspec.msgpack.Decoder[_M], take: Callable[[Put], int] | None = None
    ) -> None:
        self.reserved: int = 0
        """The bytes reserved for the last ``Put``. The caller gives them back."""
        self._decoder = decoder
        self._take_memory = take
        self._most = _MOST_OF_KEEPER if take is None else _MOST_MESSAGE
        self._buffer = bytearray()
        self._put: _M | None = None
        self._left = 0
        self._records: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[tuple[_M, bytearray | None]]:
        """Yield the messages that are complete now. Raises ``ChannelError``."""
        self._buffer += data
        while True:
            if self._put is None:
                message = self._message()
                if message is None:
                    return
                if not isinstance(message, Put):
                    yield message, None
                    continue
                self._begin(message)
            self._take()
            if self._left:
                return
            put, records = self._put, self._records
            self._put = self._records = None
            if put is not None:
                yield put, records

    def _message(self) -> _M | None:
        """Remove a message from the buffer, if it is complete."""
        buffer = self._buffer
        if len(buffer) < _LENGTH_BYTES:
            return None
        end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "big")
        if end > self._most:
            raise ChannelError
        if len(buffer) < end:
            return None
        try:
            with memoryview(buffer) as view, view[_LENGTH_BYTES:end] as raw:
                message = self._decoder.decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ChannelError from None
        del buffer[:end]
        return message

    def _begin(self, put: Put) -> None:
        """Expect the records of a ``Put``."""
        size = sum(batch.size for batch in put.batches)
        if size > MOST_BYTES:
            raise ChannelError
        self._put, self._left = put, size  # type: ignore[assignment]
        self.reserved = 0 if self._take_memory is None else self._take_memory(put)
        self._records = bytearray() if self._take_memory is None or self.reserved else None
        if self._records is None:
            put.batches = []  # decoded, they take twenty times as much until the records arrive

    def _take(self) -> None:
        """Move records out of the buffer."""
        size = min(self._left, len(self._buffer))
        if self._records is not None:
            if size == len(self._buffer) and not self._records:
                self._records, self._buffer = self._buffer, bytearray()
            else:
                with memoryview(self._buffer) as view:
                    self._records += view[:size]
                del self._buffer[:size]
        else:
            del self._buffer[:size]
        self._left -= size


def frames_of_workers(take: Callable[[Put], int]) -> Frames[FromWorker]:
    """Return the frames for a worker's messages; all workers share one ``take``."""
    return Frames(msgspec.msgpack.Decoder(FromWorker), take)


def frames_of_keeper() -> Frames[FromKeeper]:
    """Return the frames for the keeper's messages."""
    return Frames(msgspec.msgpack.Decoder(FromKeeper))


def frames_of_probe() -> Frames[Tried | Failed]:
    """Return the frames for the messages of a probing worker."""
    return Frames(msgspec.msgpack.Decoder(Tried | Failed))


class Channel(asyncio.Protocol, Generic[_M]):
    """One end of the channel on an event loop.

    ``on_message`` gets each message, with the records of a ``Put``. ``on_end`` is called once, when
    the other side is gone; its argument says whether the other side broke the rules.
    """

    def __init__(
        self,
        frames: Frames[_M],
        on_message: Callable[[_M, bytearray | None], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._frames = frames
        self._on_message = on_message
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._messages: Iterator[tuple[_M, bytearray | None]] = iter(())
        self._is_faulty = self._is_closed = self._is_paused = self._is_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, unless the channel was closed before."""
        self._transport = transport  # type: ignore[assignment]
        if self._is_closed:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Pass on complete messages until the channel is closed; close it if the other side breaks
        the rules."""
        messages = self._frames.feed(data)
        self._messages = chain(self._messages, messages) if self._is_paused else messages
        if not self._is_paused:
            self._hand_on()

    def _hand_on(self) -> None:
        """Pass on ``_AT_ONCE`` messages; others have their turn before the next ones."""
        left = _AT_ONCE
        try:
            while left and not (self._is_closed or self._is_held):
                if (found := next(self._messages, None)) is None:
                    break
                self._on_message(*found)
                left -= 1
        except BaseException as error:  # otherwise reading would stay paused
            self._is_faulty = isinstance(error, ChannelError)
            self.close()
            if not self._is_faulty:
                raise
        if self._is_closed or self._transport is None:
            return
        if not left and not self._is_held:
            asyncio.get_running_loop().call_soon(self._hand_on)
        must_pause = not left or self._is_held
        if self._is_paused and not must_pause:
            self._transport.resume_reading()
        elif not self._is_paused and must_pause:
            self._transport.pause_reading()
        self._is_paused = must_pause

    def hold(self) -> None:
        """Pass on no message after the present one, until ``release``."""
        self._is_held = True

    def release(self) -> None:
        """Pass on messages again."""
        if self._is_held:
            self._is_held = False
            self._hand_on()

    def connection_lost(self, _: Exception | None) -> None:
        """Report the end, and whether the other side has broken the rules."""
        self._transport, self._is_closed = None, True
        self._on_end(self._is_faulty)

    @property
    def waiting(self) -> int:
        """Bytes that the other side has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, *parts: bytes) -> None:
        """Send a framed message, with records, unless the channel is closed."""
        if self._transport is not None and not self._is_closed:
            self._transport.writelines(parts)

    def close(self) -> None:
        """Close at once."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()


class BatchCode:
    """Encodes batches in a ``Put``, and decodes them: schemas and their fields and purposes become
    numbers."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self._codes = [_SchemaCode(number, schema) for number, schema in enumerate(schemas)]
        self._by_digest = {code.layout.digest: code for code in self._codes}

    def seen(self, digest: str, seen: Seen) -> SeenCounts | None:
        """Encode what was seen of a schema in numbers; ``None`` for a schema without a number."""
        code = self._by_digest.get(digest)
        return None if code is None else code.seen(seen)

    def read_seen(self, counts: SeenCounts) -> tuple[str, Seen]:
        """Return the name of the schema and what was seen of it. Raises ``ChannelError`` for
        unknown numbers, and for impossibly many events, in all or with a field."""
        try:
            code = self._codes[counts.schema]
            return code.layout.table, code.read_seen(counts)
        except IndexError:
            raise ChannelError from None

    def put(self, number: int, key: RequestKey | None, batches: Sequence[PendingBatch]) -> Put:
        """Return the message that announces batches."""
        announced = [self._by_digest[each.layout.digest].announced(each) for each in batches]
        return Put(number, None if key is None else (key.key, key.body), announced)

    def batches(self, put: Put, records: bytearray) -> Iterator[PendingBatch]:
        """Yield the batches of a message, unchecked, and remove their bytes from ``records``.
        Raises ``ChannelError`` for unknown numbers."""
        for each in put.batches:
            try:
                code = self._codes[each.schema]
                names, tally = code.purposes, code.tally(each.tally)
                granted = None if each.granted is None else tuple(names[n] for n in each.granted)
                minute = minute_text(each.minute)
            except (IndexError, ValueError, OverflowError, OSError):
                raise ChannelError from None
            with memoryview(records) as view:
                payload = bytes(view[: each.size])
            del records[: each.size]
            yield PendingBatch(code.layout, minute, payload, tally, granted)


class _SchemaCode:
    """The numbers of one schema."""

    def __init__(self, number: int, schema: Schema) -> None:
        self._number, self.layout = number, schema.layout
        self._fields, self.purposes = list(schema.fields), list(schema.purposes)
        self._field_numbers = {name: number for number, name in enumerate(self._fields)}
        self._purpose_numbers = {name: number for number, name in enumerate(self.purposes)}

    def announced(self, batch: PendingBatch) -> PutBatch:
        names, numbers, tally = batch.granted, self._purpose_numbers, batch.tally
        sent = PutTally(
            tally.received,
            tally.admitted,
            [tally.rejected[reason] for reason in REJECTIONS],
            {
                self._field_numbers[name]: [reasons[drop] for drop in DROPS]
                for name, reasons in tally.dropped.items()
            },
            [tally.content[category] for category in CATEGORIES],
            tally.bytes_in,
            tally.bytes_out,
        )
        granted = None if names is None else [numbers[name] for name in names]
        minute, size = minute_number(batch.received), len(batch.payload)
        return PutBatch(self._number, minute, granted, sent, size)

    def seen(self, seen: Seen) -> SeenCounts:
        verdicts = [seen.verdicts[name] for name in VERDICTS]
        fields = {self._field_numbers[name]: dict(each) for name, each in seen.fields.items()}
        return SeenCounts(self._number, verdicts, fields)

    def read_seen(self, counts: SeenCounts) -> Seen:
        verdicts = Counter(dict(zip(VERDICTS, counts.verdicts, strict=True)))
        fields = {self._fields[number]: Counter(each) for number, each in counts.fields.items()}
        most = min(verdicts.total(), MOST_SEEN)
        if verdicts.total() > most or any(each.total() > most for each in fields.values()):
            raise ChannelError
        return Seen(verdicts, fields)

    def tally(self, sent: PutTally) -> Tally:
        return Tally(
            sent.received,
            sent.admitted,
            _counts(REJECTIONS, sent.rejected),
            {self._fields[number]: _counts(DROPS, times) for number, times in sent.dropped.items()},
            _counts(CATEGORIES, sent.content),
            sent.bytes_in,
            sent.bytes_out,
        )


def _counts(names: tuple[_N, ...], numbers: list[int]) -> Counter[_N]:
    return Counter({name: n for name, n in zip(names, numbers, strict=True) if n})


def answer_of(number: int, outcome: int | Earlier) -> tuple[int, int, list[int]]:
    """Encode what became of a put for ``Answers``."""
    if isinstance(outcome, int):
        return number, outcome, []
    counts = outcome.counts
    rejected = [counts.rejected[reason] for reason in REJECTIONS]
    return number, 0 if outcome.is_same else 409, [counts.admitted, *rejected]


class ChannelQueue:
    """Sends batches to the keeper, and resolves their futures with its answers.

    Small requests without a key that arrive in the same iteration of the event loop share a
    message: either all of them are stored, or none. Safe to use from several threads.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel[FromKeeper],
        schemas: Sequence[Schema],
    ) -> None:
        self._loop, self._thread = loop, get_ident()
        self._channel = channel
        self.code: BatchCode = BatchCode(schemas)
        self._numbers = count()
        self._pending: dict[int, list[Written]] = {}
        self._handed: deque[list[bytes]] = deque()
        self._group: list[Written] = []
        self._grouped, self._group_bytes = list[PendingBatch](), 0

    def put(self, *batches: PendingBatch, key: RequestKey | None = None) -> Written:
        """Have the keeper store the batches of one request, as in ``BatchQueue.put``."""
        merged = [batch for batch in merge(batches) if batch.tally.received]
        future: Written = Future()
        if not merged and key is None:
            future.set_result(None)
            return future
        if self._channel.waiting > _MOST_WAITING:
            raise busy()
        size = sum(len(batch.payload) for batch in merged)
        if key is None and size <= _MOST_SMALL and get_ident() == self._thread:
            self._add_to_group(future, merged, size)
        else:
            self._announce([future], key, merged)
        return future

    def _add_to_group(self, future: Written, batches: Sequence[PendingBatch], size: int) -> None:
        if not self._group:
            self._loop.call_soon(self._send_group)
        self._group.append(future)
        self._group_bytes += size
        self._grouped += batches
        if self._group_bytes > _MOST_GROUPED:
            self._send_group()

    def _send_group(self) -> None:
        if self._group:
            futures, batches = self._group, merge(self._grouped)
            self._group, self._grouped, self._group_bytes = [], [], 0
            self._announce(futures, None, batches)

    def _announce(
        self,
        futures: list[Written],
        key: RequestKey | None,
        batches: Sequence[PendingBatch],
    ) -> None:
        number = next(self._numbers)
        self._pending[number] = futures
        put = framed(self.code.put(number, key, batches))
        self.send([put, *(batch.payload for batch in batches)])

    def send(self, parts: list[bytes]) -> None:
        """Send a message from any thread."""
        if get_ident() == self._thread and not self._handed:
            self._channel.send(*parts)
            return
        self._handed.append(parts)
        self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        while self._handed:
            self._channel.send(*self._handed.popleft())

    def answered(self, answers: Answers) -> None:
        """Resolve futures."""
        for number, outcome, counts in answers.outcomes:
            for future in self._pending.pop(number, ()):
                if future.set_running_or_notify_cancel():
                    _resolve(future, outcome, counts)


_REFUSED = {505: SpoolFull, 506: unwritable}


def _resolve(future: Written, outcome: int, counts: list[int]) -> None:
    if outcome == 1:
        future.set_result(None)
    elif outcome in (0, 409):
        admitted, *rejected = counts
        tally = Tally(sum(counts), admitted, _counts(REJECTIONS, rejected))
        future.set_result(Earlier(tally, is_same=outcome == 0))
    else:
        future.set_exception(_REFUSED.get(outcome, busy)())
