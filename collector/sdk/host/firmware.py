"""The device that a PC's firmware (SMBIOS) describes, as Linux and Windows both pass it on."""

from __future__ import annotations

import re

__all__ = ["device", "is_virtual"]

_FILLERS = frozenset(
    "00 0123456789 123456789 allseries defaultstring empty family invalid na none notapplicable"
    " notavailable notspecified null oem productname sku standard systemfamily systemmanufacturer"
    " systemmodel systemname systemproductname systemversion tobefilledbyoem type1family"
    " type1manufacturer type1productconfigid undefined unknown xxx".split()
)
"""What is left where a maker wrote nothing: letters and digits of it, in lower case."""

_VIRTUAL = tuple(
    "ahv,alibaba cloud,amazon ec2,apple virtualization,bhyve,bochs,cloudstack,digitalocean,droplet,"
    "google compute engine,hvm domu,hyper-v,innotek gmbh,kubevirt,kvm,nutanix,openstack,ovirt,"
    "parallels,qemu,red hat,rhev hypervisor,rhel,scaleway,upcloud,virtual machine,virtualbox,"
    "virtualmac,vmw,vserver,vultr,xen".split(",")
)
"""How makers and products of virtual machines begin: systemd's table (src/basic/virt.c), the clouds
whose own names firmware gives, and Hyper-V, which systemd knows by its processor."""

_APPLE = re.compile(r"[A-Za-z]{3,16}[0-9]{1,2},[0-9]{1,2}")


def is_virtual(*names: str) -> bool:
    """Whether a maker or a product is that of a virtual machine."""
    return any(name.casefold().startswith(_VIRTUAL) for name in names)


def device(maker: str, product: str, family: str) -> dict[str, str]:
    """The fields of a device: its maker, and its model as an identifier or as a name."""
    if is_virtual(maker, product):
        return {}
    maker, product, family = map(_said, (maker, product, family))
    says = {"device.manufacturer": maker}
    if maker == "LENOVO":  # its product is a machine type, such as 20MWCTO1WW
        return {**says, "device.model.identifier": product, "device.model.name": family}
    kind = "identifier" if _APPLE.fullmatch(product) else "name"
    return {**says, f"device.model.{kind}": product}


def _said(text: str) -> str:
    return "" if re.sub(r"[^a-z0-9]", "", text.casefold()) in _FILLERS else text
