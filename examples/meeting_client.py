"""Hold a meeting whose clients report telemetry to a store, and show the store's contents.

    python examples/meeting_client.py --people Ana,Ben,Chloé --store telemetry.db

A small server relays messages. Each client joins, chats and leaves, and gives ``Collector`` all
that it has: its address and machine, and also names, texts and a microphone. At the end, the
program prints the store's rows and searches it for the messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
from asyncio import StreamReader, StreamWriter
from contextlib import closing, suppress
from pathlib import Path

from collector import Collector
from collector.sdk import host_event
from collector.testing import scan

LINES = ("Can you hear me?", "The numbers are confidential.", "Bye, see you on Monday!")


class Meeting:
    """The server: relay each message of a client to all others, from when so many have come until
    none has more to say."""

    def __init__(self, size: int) -> None:
        self.writers: set[StreamWriter] = set()
        self.everyone = asyncio.Barrier(size)

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.writers.add(writer)
        await self.everyone.wait()
        with suppress(ConnectionError):
            while line := await reader.readline():
                for other in self.writers - {writer}:
                    other.write(line)
        await self.everyone.wait()
        writer.close()


class Client:
    """The client of one participant."""

    def __init__(self, name: str, telemetry: Collector) -> None:
        self.name = name
        self.telemetry = telemetry
        self.received: list[dict[str, str]] = []

    async def attend(self, port: int, texts: tuple[str, ...]) -> None:
        """Join, send the texts, read the others' messages, and leave."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        address = writer.get_extra_info("sockname")[0]
        self.report("join", address, user_name=self.name, microphone=f"{self.name}'s headset")
        listening = asyncio.create_task(self.listen(reader))
        for text in texts:
            message = {"from": self.name, "text": text}
            writer.write(json.dumps(message).encode() + b"\n")
            self.report("chat", address, chat=[message])
            await asyncio.sleep(0.01)
        writer.write_eof()
        await listening
        writer.close()
        self.report("leave", address, transcript={"messages": self.received})

    async def listen(self, reader: StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.received.append(json.loads(line))

    def report(self, event: str, address: str, **more: object) -> None:
        """Emit everything: only fields that the schema lists leave this call."""
        self.telemetry.emit({"event": event, "ip_address": address, **host_event(), **more})


async def hold(people: list[str], telemetry: Collector) -> list[Client]:
    """Run the server, and a client for each participant."""
    server = await asyncio.start_server(Meeting(len(people)), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clients = [Client(name, telemetry) for name in people]
    async with server:
        await asyncio.gather(*(client.attend(port, LINES) for client in clients))
    return clients


def show(store: Path, texts: list[str]) -> None:
    """Print the store's rows, and how many of the texts are in it."""
    with closing(sqlite3.connect(store)) as db:
        rows = db.execute(
            'SELECT "client.address", "os.type", "os.name", "os.version", sum("count")'
            " FROM conferencing GROUP BY 1, 2, 3, 4"
        ).fetchall()
    print(f"\n{store} now holds")
    for row in rows:
        print("  ", *row[:-1], f"({row[-1]} times)", sep="  ")
    found = scan(store, texts)
    print(f"messages and names: {len(found)} of {len(texts)} texts are in it")


def main() -> None:
    parser = argparse.ArgumentParser(description="A meeting, and the contents of its store.")
    parser.add_argument("--people", default="Ana,Ben,Chloé", help="their names, with commas")
    parser.add_argument("--store", type=Path, default=Path("telemetry.db"))
    arguments = parser.parse_args()
    people = arguments.people.split(",")

    with Collector("conferencing", f"sqlite:///{arguments.store}") as telemetry:
        clients = asyncio.run(hold(people, telemetry))
    for message in clients[0].received:
        print(f"{message['from']}: {message['text']}")
    print("\ncounted:", json.dumps(telemetry.tally().as_dict()))
    show(arguments.store, [*LINES, *(f"{name}'s headset" for name in people)])


if __name__ == "__main__":
    main()
