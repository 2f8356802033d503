"""A limit on the requests per second of each client."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

# Addresses that are remembered; the one that was quiet longest is forgotten first.
_MOST_CLIENTS = 10_000


class RateLimit:
    """A token bucket for each client, which holds the requests of one second, at least one.

    Args:
        per_second: requests, on average over time.
        clock: gives seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._size = max(1.0, per_second)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: str) -> int:
        """Count a request.

        Args:
            client: its address.

        Returns:
            0 if the request may go on, else seconds after which the next one may.
        """
        client, now = _network(client), self._clock()
        tokens, before = self._buckets.pop(client, (self._size, now))
        tokens = min(self._size, tokens + (now - before) * self._per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / self._per_second))


def _network(client: str) -> str:
    """The client, or of an IPv6 address its network: a client has 2^64 addresses."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return client
