"""NATS JetStream: a connection with its own thread, for callers that block.

``nats`` is imported when a connection is made. Errors of the library and of a server may quote what
was sent, so they are never shown: each becomes one of the constants here.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as WaitTimeout
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from collector.addresses import Address
from collector.brokers.message import Outgoing
from collector.brokers.source import Fetched, Outcome
from collector.config.broker_settings import NatsAccess, Servers
from collector.errors import Cause, ConfigError, Unreachable
from collector.extras import require
from collector.http_client import tls

HEADER_BYTES = 512
"""The most bytes of a message's headers, which a server counts with its payload."""
_CONNECT_SECONDS = 5.0
_ASK_SECONDS = 3.0
_TOGETHER_BYTES = 8 << 20
_ACK_SECONDS = 60.0
"""How long our consumer waits for an answer about a message before another drain gets it."""
_LEAST_ACK_SECONDS = 30.0
"""The shortest wait of a consumer that others made: a drain answers every 20 seconds."""
_MOST_UNSETTLED = 1 << 16
"""The most unsettled messages of all drains together. Each drain holds at most 256, so the others
go on however many have a dead sink."""
_ANSWERS: Mapping[Outcome, bytes] = {
    "done": b"+ACK",
    "waiting": b"+WPI",
    "again": b'-NAK {"delay": 1000000000}',
}
_NO_ANSWER = "no server of the broker answers"
_LOSES = (
    "the stream's consumer is one that loses messages: delete it, or give it explicit"
    " acknowledgement, whole messages, all of them, unlimited deliveries and 30 s to acknowledge"
)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, repr=False)
class StreamLogin:
    """What a server requires: a token, a user with a password, or a file of credentials."""

    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: Path | None = None


class JetStream:
    """A connection to a cluster. It is made when needed and again after an error, trying one server
    after the other. For one thread at a time."""

    def __init__(
        self,
        addresses: Sequence[Address],
        stream: str,
        login: StreamLogin,
        context: ssl.SSLContext | None = None,
        *,
        subject: str = "",
        consumer: str = "",
        seconds: float = 10.0,
    ) -> None:
        self._stream, self._subject, self._consumer = stream, subject, consumer
        self._addresses = list(addresses)
        self._login, self._context = login, context
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Any = None
        self._bound: Any = None
        self._most: tuple[Any, int] | None = None  # the connection, and its bytes
        self._pulled: Any = None

    @property
    def _is_open(self) -> bool:
        return self._client is not None and self._client.is_connected

    def most_bytes(self) -> int:
        """Return the most bytes of a message that the server and the stream accept. Raises
        ``Unreachable``."""
        return self._run(self._most_bytes()) - HEADER_BYTES

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages; return when the stream has stored all. Raises ``Unreachable`` with the
        reason; some may be stored then."""
        self._run(self._publish(messages))

    def expiry(self) -> timedelta | None:
        """Return the max age of the stream: ``timedelta.max`` if there is none, ``None`` if this
        user may not ask. Raises ``Unreachable``, also if there is no such stream."""
        return self._run(self._expiry())

    def drops(self) -> bool:
        """Return whether the stream deletes old messages to make room, or keeps none without a
        consumer; ``False`` if this user may not ask. Raises ``Unreachable`` as ``expiry`` does."""
        return self._run(self._drops())

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Take up to ``most`` messages through the durable consumer, which is made if it does not
        exist; fewer if they may be large. Raises ``Unreachable``."""
        return self._run(self._fetch(most, seconds)) if most > 0 else []

    def acknowledge(self, tokens: Sequence[str], outcome: Outcome) -> None:
        """Tell the consumer what happened to messages. Raises ``Unreachable``; a message without an
        answer is handed out again."""
        if tokens:
            self._run(self._acknowledge(tokens, _ANSWERS[outcome]))

    def close(self) -> None:
        """Close the connection and end the thread; a later call opens both again."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), loop).result(_CONNECT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CONNECT_SECONDS)

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run work in the thread, within a time limit. Raises ``Unreachable``."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_ignore)
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="collector-nats", daemon=True
            )
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        failure = Unreachable(_NO_ANSWER)
        try:
            return future.result(self._seconds + _CONNECT_SECONDS)
        except (WaitTimeout, CancelledError):
            future.cancel()
        except Exception as error:  # noqa: BLE001 - the library's errors may quote what was sent
            failure = _meaning(error)
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(1.0)
        raise Unreachable(failure.message, failure.cause)

    async def _connected(self) -> Any:
        if self._is_open:
            return self._client
        await self._disconnect()
        from nats.aio.client import Client  # noqa: PLC0415 - an extra

        scheme = "nats" if self._context is None else "tls"
        failure = Unreachable(_NO_ANSWER)
        for _ in range(len(self._addresses)):
            address = self._addresses[0]
            self._addresses.append(self._addresses.pop(0))  # try the next one first next time
            client = Client()
            options: dict[str, Any] = {} if self._context is None else {"tls": self._context}
            if self._login.credentials is not None:
                options["user_credentials"] = str(self._login.credentials)
            try:
                await asyncio.wait_for(
                    client.connect(
                        f"{scheme}://{address}",
                        error_cb=_ignored,
                        allow_reconnect=False,
                        connect_timeout=int(_CONNECT_SECONDS),
                        user=self._login.user,
                        password=self._login.password,
                        token=self._login.token,
                        **options,
                    ),
                    _CONNECT_SECONDS,
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, try the next one
                failure = _meaning(error)
                with suppress(Exception):
                    await client.close()
                continue
            self._client = client
            return client
        raise failure

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), 1.0)

    async def _most_bytes(self) -> int:
        client = await self._connected()
        if self._most is None or self._most[0] is not client:
            config = await self._config()
            own = 0 if config is None else config.max_msg_size or 0
            self._most = client, min(client.max_payload, own) if own > 0 else client.max_payload
        return self._most[1]

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        client = await self._connected()
        stream = client.jetstream(timeout=self._seconds)
        together, size = list[Outgoing](), 0
        for message in messages:
            if together and size + len(message.data) > _TOGETHER_BYTES:
                await self._publish_some(stream, together)
                together, size = [], 0
            together.append(message)
            size += len(message.data)
        await self._publish_some(stream, together)

    async def _publish_some(self, stream: Any, some: Sequence[Outgoing]) -> None:
        tasks = [
            stream.publish(
                self._subject, each.data, stream=self._stream, headers={"Nats-Msg-Id": each.id}
            )
            for each in some
        ]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _fetch(self, most: int, seconds: float) -> list[Fetched]:
        client = await self._connected()
        stream = client.jetstream(timeout=self._seconds)
        if self._bound is not client:
            await self._bind(stream)
            self._bound = client
        few = max(2, min(most, _TOGETHER_BYTES // max(1, client.max_payload)))
        try:
            found = await self._pulled.fetch(few, timeout=seconds)
        except TimeoutError:
            return []
        return [
            Fetched(each.data, each.reply, each.metadata.timestamp.timestamp()) for each in found
        ]

    async def _bind(self, stream: Any) -> None:
        from nats.js.errors import NotFoundError  # noqa: PLC0415 - an extra

        try:
            await self._check_consumer(stream)
        except NotFoundError:
            await stream.add_consumer(
                self._stream,
                durable_name=self._consumer,
                ack_wait=_ACK_SECONDS,
                max_ack_pending=_MOST_UNSETTLED,
                max_deliver=-1,
            )
        self._pulled = await stream.pull_subscribe_bind(
            consumer=self._consumer, stream=self._stream
        )

    async def _check_consumer(self, stream: Any) -> None:
        """Require that messages come again until each one is acknowledged, and go to only one drain
        at a time: somebody else may have made the consumer."""
        found = (await stream.consumer_info(self._stream, self._consumer)).config
        is_explicit = found.ack_policy == "explicit" and not found.headers_only
        is_unlimited = (found.max_deliver or -1) < 0 and found.deliver_policy in (None, "all")
        if not (is_explicit and is_unlimited and (found.ack_wait or 0) >= _LEAST_ACK_SECONDS):
            raise Unreachable(_LOSES, "changed")

    async def _acknowledge(self, tokens: Sequence[str], answer: bytes) -> None:
        client = await self._connected()
        for token in tokens:
            await client.publish(token, answer)
        await client.flush(timeout=int(_CONNECT_SECONDS))

    async def _config(self) -> Any:
        """Return the stream's settings; ``None`` if this user may not ask. Raises ``Unreachable``
        for a stream that does not take the subject."""
        from nats.errors import NoRespondersError  # noqa: PLC0415 - an extra

        client = await self._connected()
        stream = client.jetstream(timeout=min(self._seconds, _ASK_SECONDS))
        config = None
        with suppress(TimeoutError, NoRespondersError):  # without permission, this is the answer
            config = (await stream.stream_info(self._stream)).config
        if config is not None and not self._is_taken(config.subjects or ()):
            raise Unreachable(*_WORDS["NoStreamResponseError"])
        return config

    def _is_taken(self, patterns: Sequence[str]) -> bool:
        """Return whether a stream with these subjects, which may have wildcard tokens, takes
        ours."""
        own = self._subject.split(".")
        for pattern in patterns if self._subject else ():
            tokens = pattern.split(".")
            is_open = tokens[-1] == ">" and len(tokens) <= len(own)
            if (is_open or len(tokens) == len(own)) and all(
                token in ("*", ">", mine) for token, mine in zip(tokens, own, strict=False)
            ):
                return True
        return not self._subject

    async def _drops(self) -> bool:
        config = await self._config()
        if config is None:
            return False
        limits = (config.max_bytes, config.max_msgs, config.max_msgs_per_subject)
        makes_room = config.discard != "new" and any((most or 0) > 0 for most in limits)
        return makes_room or config.retention == "interest"

    async def _expiry(self) -> timedelta | None:
        from nats.errors import NoRespondersError  # noqa: PLC0415 - an extra
        from nats.js.errors import NotFoundError  # noqa: PLC0415

        config = await self._config()
        if config is None:
            return None
        if self._consumer:
            stream = self._client.jetstream(timeout=min(self._seconds, _ASK_SECONDS))
            with suppress(TimeoutError, NoRespondersError, NotFoundError):
                await self._check_consumer(stream)
        return timedelta(seconds=config.max_age) if config.max_age else timedelta.max


def jetstream(
    access: NatsAccess,
    servers: Servers,
    stream: str,
    *,
    subject: str = "",
    consumer: str = "",
    seconds: float = 10.0,
) -> JetStream:
    """Return the connection for the settings of a sink or a drain; it is made later. Raises
    ``ConfigError``: E201 without the library, E202 for missing secrets, E212 for the files of
    TLS."""
    require("NATS", "nats", "nats.js")
    if access.credentials is not None and not access.credentials.is_file():
        raise ConfigError("E202", "the file of `credentials` is not there")
    login = StreamLogin(
        access.secret(access.user),
        access.secret(access.password),
        access.secret(access.auth_token),
        access.credentials,
    )
    context = tls(*access.files_of_tls()) if servers.is_encrypted else None
    return JetStream(
        servers.addresses,
        stream,
        login,
        context,
        subject=subject,
        consumer=consumer,
        seconds=seconds,
    )


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, and then its remaining tasks."""
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
    loop.close()


def _ignore(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
    """Log nothing: a loss shows in the call that waits."""


async def _ignored(_: Exception) -> None:
    """Log nothing, as above."""


_WORDS: Mapping[str, tuple[str, Cause]] = {
    "NoStreamResponseError": ("no stream takes the subject", "changed"),
    "NotFoundError": ("the broker has no such stream", "changed"),
    "AuthorizationError": ("the broker refuses the credentials", "denied"),
    "MaxPayloadError": ("the broker takes no messages of this size", "refused"),
    "SSLError": ("the broker's certificate is not one that is trusted", "denied"),
    "SSLCertVerificationError": ("the broker's certificate is not one that is trusted", "denied"),
    "ServiceUnavailableError": ("the stream has no leader, or no room", "busy"),
    "BadRequestError": (
        "the broker refuses the message: the stream is another one, or is full",
        "refused",
    ),
    "ServerError": ("the stream takes nothing now: it is full, or has no leader", "full"),
}


def _meaning(error: BaseException) -> Unreachable:
    """Return what an error of the library means, in our words: its type says enough."""
    if isinstance(error, Unreachable):
        return error
    return Unreachable(*_WORDS.get(type(error).__name__, (_NO_ANSWER, "unreachable")))
