"""What this machine is: its device and its operating system.

Nothing is asked that tells it from others of its kind: no serial number, name, network card or
machine id. What comes out is unchecked text for the filter, as any event is.
"""

from __future__ import annotations

import sys

from collector.sdk.host import android, linux, macos, windows

__all__ = ["host_event"]

_SYSTEMS = {"android": android, "darwin": macos, "linux": linux, "win32": windows}


def host_event() -> dict[str, str]:
    """An event about this machine: field name → text, and only what it really says.

    ``device.type``, ``device.manufacturer``, ``device.model.identifier``, ``device.model.name``,
    ``os.type``, ``os.name``, ``os.version``, ``os.build_id``. A virtual machine has no device. On
    systems other than Android, Linux, macOS and Windows the event is empty. Never raises.
    """
    on_android = hasattr(sys, "getandroidapilevel")  # before Python 3.13 it calls itself linux
    system = _SYSTEMS.get("android" if on_android else sys.platform)
    if system is None:
        return {}
    return {name: text for name, text in system.describe(system.read).items() if text}
