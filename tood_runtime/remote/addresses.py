"""Which IP addresses are on the internet, rather than on this machine or in a private network."""

import ipaddress

# Its addresses hold the IPv4 address that a gateway sends the packets to (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# IANA's registries of special addresses have these too, but not in all versions of Python.
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in (
        *("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        *("5f00::/16", "fec0::/10"),
        # Public by its number, but inside of Azure it is the host of the virtual machine.
        "168.63.129.16/32",
    )
]


def is_public_address(address: str) -> bool:
    """Whether an IP address is on the internet, and so is an IPv4 address that it stands for.

    Raises:
        ValueError: it is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])  # without the zone of fe80::1%eth0
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local:
        return False
    return ip.is_global and not any(ip in network for network in _SPECIAL)
