"""Word to the service manager that started us, if it wants any (systemd's ``sd_notify``)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Literal

__all__ = ["notify"]


def notify(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Send the state to ``NOTIFY_SOCKET``; nothing happens where there is none."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)
