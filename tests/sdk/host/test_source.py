"""Devices as firmware describes them: fillers, virtual machines, identifiers and names."""

from __future__ import annotations

import pytest

from collector.sdk.host import device_fields, is_virtual


def _fields(maker: str, product: str, family: str = "") -> dict[str, str]:
    return {name: text for name, text in device_fields(maker, product, family).items() if text}


def test_fillers_say_nothing() -> None:
    """A placeholder of a maker is not a name."""
    for maker, product in [
        ("To be filled by O.E.M.", "To be filled by O.E.M."),
        ("System manufacturer", "System Product Name"),
        ("OEM", "All Series"),
        ("Default string", "Default string"),
        ("Not Specified", "None"),
        ("Unknown", "Type1ProductConfigId"),
        ("  ", "N/A"),
        ("INVALID", "Not Applicable"),
        ("-", "0123456789"),
    ]:
        assert not "".join(_fields(maker, product).values()).strip(" -")


def test_virtual_machines_are_no_devices() -> None:
    """They have neither a maker nor a model."""
    for maker, product in [
        ("QEMU", "Standard PC (Q35 + ICH9, 2009)"),
        ("Red Hat", "KVM"),
        ("VMware, Inc.", "VMware20,1"),
        ("innotek GmbH", "VirtualBox"),
        ("Xen", "HVM domU"),
        ("Microsoft Corporation", "Virtual Machine"),
        ("Parallels International GmbH.", "Parallels ARM Virtual Machine"),
        ("Google", "Google Compute Engine"),
        ("Amazon EC2", "t3.micro"),
        ("DigitalOcean", "Droplet"),
        ("OpenStack Foundation", "OpenStack Nova"),
        ("Hetzner", "vServer"),
        ("Apple Inc.", "Apple Virtualization Generic Platform"),
        ("Nutanix", "AHV"),
    ]:
        assert is_virtual(maker, product)
        assert _fields(maker, product) == {}


@pytest.mark.parametrize(
    ("maker", "product"),
    [
        ("Microsoft Corporation", "Surface Pro 9"),
        ("Google", "Eve"),
        ("Micro-Star International Co., Ltd.", "MS-7C37"),
        ("Hewlett-Packard", "HP EliteBook 840 G3"),
    ],
)
def test_real_devices_are_not_virtual(maker: str, product: str) -> None:
    """Makers of virtual machines make real ones too."""
    assert _fields(maker, product) == {
        "device.manufacturer": maker,
        "device.model.name": product,
    }


def test_an_identifier_of_apple_is_no_name() -> None:
    """A Mac that runs Linux or Windows has an identifier and no name."""
    assert _fields("Apple Inc.", "MacBookPro16,1", "MacBook Pro") == {
        "device.manufacturer": "Apple Inc.",
        "device.model.identifier": "MacBookPro16,1",
    }


def test_lenovo_calls_the_family_what_others_call_the_product() -> None:
    """Its product is a machine type, and its family the name on the lid."""
    assert _fields("LENOVO", "21CB", "ThinkPad T14 Gen 3") == {
        "device.manufacturer": "LENOVO",
        "device.model.identifier": "21CB",
        "device.model.name": "ThinkPad T14 Gen 3",
    }
