"""Fetching a small file from an address into memory, of machines that anybody can reach.

An address may be a stranger's: it must not lead to what only this machine's network can see. Each connection is checked
by the number that its name stands for, and that number is connected to; so are those that an answer leads on to.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from convnext.errors import InputError
from convnext.printing import without_password
from convnext.storage.download import first_line, opener_of, request_of

PRIVATE = "CONVNEXT_PRIVATE_ADDRESSES"
"""Environment variable that allows private addresses, by "1"."""
LARGEST_FETCH = 2**26
"""Bytes of a file that is fetched, at most."""
LONGEST_FETCH = 60.0
"""Seconds that fetching a file takes, at most."""
_EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""Networks whose addresses end in an IPv4 address: NAT64's, and the compatible addresses of old."""


def fetch_public(url: str, *, most: int = LARGEST_FETCH, seconds: float = LONGEST_FETCH) -> bytes:
    """The content of an http or https address.

    `InputError` for one that leads to no file or to a private network, more than `most` bytes, or more than `seconds`.
    Through a proxy that the environment names, it is the proxy that decides where it connects to.
    """
    said, until = without_password(url), time.monotonic() + seconds
    try:
        parts = urlsplit(url)
        proxied = parts.scheme.lower() in getproxies() and not proxy_bypass(parts.hostname or "")
        connect = _through_proxies if proxied else connect_publicly
        with opener_of(connect, until).open(request_of(url), timeout=min(10.0, seconds)) as response:
            size, content = int(response.headers.get("Content-Length") or 0), bytearray()
            while part := response.read1(2**20) if size <= most else b"":
                content += part
                if len(content) > most:
                    break
        if max(size, len(content)) > most:
            raise InputError(f"{said} has more than {most:,} bytes")
        if len(content) < size:
            raise InputError(f"{said} ended after {len(content):,} of {size:,} bytes")
        return bytes(content)
    except HTTPError as error:
        error.close()
        raise InputError(f"{said}: the server answers {error.code} {first_line(error.reason)}") from None
    except InputError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last for what is no address, or no length
        raise InputError(f"{said} cannot be fetched: {first_line(getattr(error, 'reason', error))}") from None


def connect_publicly(address: tuple[str, int], timeout: Any = None, source_address: Any = None) -> socket.socket:
    """`socket.create_connection`, to public addresses alone. `InputError` for a host that has none."""
    host, port = address
    if os.environ.get(PRIVATE) == "1":
        return socket.create_connection(address, timeout, source_address)
    numbers = dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    public = [number for number in numbers if is_public(number)]
    if not public:
        raise InputError(f"{host} is an address of a private network; {PRIVATE}=1 allows those")
    problem: OSError | None = None
    for number in public:
        try:
            return socket.create_connection((number, port), timeout, source_address)
        except OSError as error:
            problem = error
    assert problem is not None
    raise problem


def _through_proxies(address: tuple[str, int], timeout: Any = None, source_address: Any = None) -> socket.socket:
    """A connection to one of the environment's proxies, or as of `connect_publicly`: a redirect may need no proxy."""
    named = getproxies()  # "no" too, which names hosts that are asked without one
    proxies = [named[scheme] for scheme in ("http", "https") if scheme in named]
    if address[0] in {urlsplit(proxy if "//" in proxy else f"//{proxy}").hostname for proxy in proxies}:
        return socket.create_connection(address, timeout, source_address)
    return connect_publicly(address, timeout, source_address)


def is_public(number: str) -> bool:
    """Whether an IP address is one that anybody can reach."""
    found = ip_address(number.partition("%")[0])
    inner = _embedded(found)
    return found.is_global and not found.is_multicast and (inner is None or is_public(str(inner)))


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to; None for others."""
    if isinstance(address, IPv4Address):
        return None
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
