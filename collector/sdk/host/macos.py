"""macOS: Apple's own property list of its version, and the model that the kernel knows."""

from __future__ import annotations

import re

from collector.sdk.host.firmware import is_virtual
from collector.sdk.host.source import Source, text_of

__all__ = ["describe", "read"]

_MODEL = "hw.model"
_SERVICES = "/System/Library/CoreServices/"
_VERSIONS = (f"{_SERVICES}.SystemVersionPlatform.plist", f"{_SERVICES}SystemVersion.plist")
"""The second says 10.16 to programs built before macOS 11; the first says the same to all."""

_TEXT = re.compile(r"<key>(\w{1,32})</key>\s{0,16}<string>([^<&]{1,64})</string>", re.ASCII)
"""A text of a property list. It takes no parser: this one is Apple's own, and flat."""

_TYPES = {"MacBook": "laptop", "iMac": "desktop", "Macmini": "desktop", "MacPro": "desktop"}
"""How identifiers begin. Since 2022 they are all called ``Mac14,2``, which tells nothing."""


def describe(source: Source) -> dict[str, str]:
    """The fields of this machine; those it does not say are empty or missing."""
    says = next(filter(None, (dict(_TEXT.findall(source(name))) for name in _VERSIONS)), {})
    return {
        "os.type": "darwin",
        "os.name": says.get("ProductName", "macOS"),
        "os.version": says.get("ProductVersion", ""),
        "os.build_id": says.get("ProductBuildVersion", ""),
        **_device(source(_MODEL)),
    }


def _device(model: str) -> dict[str, str]:
    if not model or is_virtual(model):
        return {}
    kind = next((kind for name, kind in _TYPES.items() if model.startswith(name)), "")
    return {
        "device.type": kind,
        "device.manufacturer": "Apple",
        "device.model.identifier": model,
    }


def read(name: str) -> str:
    """A file, or a text of the kernel's state."""
    return _kernel(name) if name == _MODEL else text_of(name)


def _kernel(name: str) -> str:
    import ctypes  # noqa: PLC0415 - not everywhere

    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    try:
        ask = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return ""
    failed = ask(name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else text.value.decode("utf-8", "replace")
