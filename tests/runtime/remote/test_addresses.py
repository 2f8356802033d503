"""Addresses of the internet, and those that a server must not fetch from."""

import pytest

from tood_runtime.remote.addresses import is_public_address

# At addresses that are not public, in the spellings that resolvers accept.
PRIVATE_URLS = [
    "http://127.0.0.1/x.jpg",
    "http://127.1.2.3/x.jpg",
    "http://0.0.0.0/x.jpg",
    "http://0/x.jpg",
    "http://[::1]/x.jpg",
    "http://[::]/x.jpg",
    "http://[::ffff:127.0.0.1]/x.jpg",
    "http://[::ffff:10.0.0.1]/x.jpg",
    "http://[64:ff9b::7f00:1]/x.jpg",
    "http://[2002:7f00:1::]/x.jpg",
    "http://[fe80::1]/x.jpg",
    "http://[fd00:ec2::254]/x.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://2130706433/x.jpg",
    "http://0x7f000001/x.jpg",
    "http://0177.0.0.1/x.jpg",
    "http://127.1/x.jpg",
    "http://10.0.0.1/x.jpg",
    "http://172.16.0.1/x.jpg",
    "http://192.168.1.1/x.jpg",
    "http://224.0.0.1/x.jpg",
    "http://255.255.255.255/x.jpg",
    "http://localhost/x.jpg",
    "http://LOCALHOST./x.jpg",
    "https://localhost/x.jpg",
    "http://\uff11\uff12\uff17.0.0.1/x.jpg",  # full-width digits
]


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111",
                                     "::ffff:8.8.8.8", "64:ff9b::808:808"])  # fmt: skip
def test_public_addresses(address):
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "10.1.2.3", "100.64.0.1", "169.254.169.254", "168.63.129.16",
     "192.0.0.192", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
     "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::a00:1",
     "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:808:808::1", "fc00::1", "fd00:ec2::254",
     "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"],
)  # fmt: skip
def test_other_addresses(address):
    assert not is_public_address(address)
