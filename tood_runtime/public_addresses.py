"""Which IP addresses are on the internet, rather than on this machine or in a private network."""

import ipaddress

# Its addresses hold the IPv4 address that a gateway sends the packets to (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Public by its number, but inside of Azure it is the host of the virtual machine.
_PLATFORM_ADDRESSES = {ipaddress.ip_address("168.63.129.16")}


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
        elif ip.sixtofour is not None or ip.teredo is not None or ip.is_site_local:
            return False  # tunnels to IPv4 addresses, and an old kind of private addresses
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local:
        return False
    return ip.is_global and ip not in _PLATFORM_ADDRESSES
