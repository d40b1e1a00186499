"""Android: the system's properties, which every app may read."""

from __future__ import annotations

from collector.sdk.host.source import Source

__all__ = ["describe", "read"]

_LONGEST = 92
"""PROP_VALUE_MAX of Android's sys/system_properties.h, in bytes."""


def describe(source: Source) -> dict[str, str]:
    """The fields of this machine; those it does not say are empty or missing.

    Android has one text for a model. OpenTelemetry gives it as identifier and as name; so do we.
    """
    says = {
        "os.type": "android",
        "os.name": "Android",
        "os.version": source("ro.build.version.release"),
        "os.build_id": source("ro.build.id"),
    }
    if source("ro.kernel.qemu") == "1" or source("ro.boot.qemu") == "1":
        return says
    forms = source("ro.build.characteristics").split(",")
    model = source("ro.product.model")
    return says | {
        "device.type": next((form for form in ("tablet", "phone") if form in forms), ""),
        "device.manufacturer": source("ro.product.manufacturer"),
        "device.model.identifier": model,
        "device.model.name": model,
    }


def read(name: str) -> str:
    """A property of the system."""
    import ctypes  # noqa: PLC0415 - not everywhere

    text = ctypes.create_string_buffer(_LONGEST)
    try:
        ctypes.CDLL(None)["__system_property_get"](name.encode(), text)
    except (OSError, AttributeError):
        return ""
    return text.value.decode("utf-8", "replace").strip()
