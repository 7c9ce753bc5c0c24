"""Callbacks that may be called: https, to public addresses, judged by the address that is really connected to.

A name is checked each time it is resolved, just before the connection, and the connection goes to the very address
that was checked; so a name that changes its mind in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2_048

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        # Beyond what ipaddress calls global, which grows with Python's releases (IANA's special-purpose registries).
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24"),  # this network, shared with carriers, protocol assignments
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"),  # documentation, benchmarks
        *("192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"),  # AS112, relays of multicast
        *("192.88.99.0/24", "2002::/16"),  # relays of 6to4, and what they lead to
        *("224.0.0.0/4", "240.0.0.0/4"),  # multicast, reserved
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and all to come
        *("2001:db8::/32", "3fff::/20"),  # documentation
        "2620:4f:8000::/48",  # AS112
    )
)

USUAL_PORTS = frozenset({80, 443})
FIRST_OPEN_PORT = 1024
"""Below it stand the services of the system, which an agent's callback is none of."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAX_NAME = 253


class CallbackRefusedError(ValueError):
    """The callback may not be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackPolicy:
    """The addresses allowed beyond public https ones.

    `allow_private`: every address and port, and plain http to loopback. `networks`: these addresses too, over https.
    `ports`: these ports too, beside 80, 443 and those above 1023.
    """

    allow_private: bool = False
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()

    def check_url(self, url: object) -> tuple[str, str]:
        """Return the callback's base URL in normal form, and its host key `scheme://name:port`.

        Raises CallbackRefusedError.
        """
        if not isinstance(url, str) or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            raise CallbackRefusedError(f"the callback is no URL of at most {MAX_URL} printable ASCII characters")
        try:
            parts = urlsplit(url)
            name, port = parts.hostname, parts.port
        except ValueError as error:
            raise CallbackRefusedError(f"the callback is no URL: {error}") from error
        if parts.scheme not in {"https", "http"} or not name:
            raise CallbackRefusedError("the callback is no https URL")
        # An empty query or fragment too: the path of a fire, put behind it, would be no path.
        if parts.username is not None or parts.password is not None or any(sign in url for sign in "?#\\"):
            raise CallbackRefusedError("the callback may have no user, query or fragment")
        if "[" in parts.netloc and not isinstance(_literal(name), ipaddress.IPv6Address):
            raise CallbackRefusedError("the callback's host in brackets is no IPv6 address")
        name = name.removesuffix(".")
        port = (443 if parts.scheme == "https" else 80) if port is None else port
        self._check_name(name, secure=parts.scheme == "https")
        self._check_port(port)
        shown = f"[{name}]" if ":" in name else name
        return url.rstrip("/"), f"{parts.scheme}://{shown}:{port}"

    def _check_port(self, port: int) -> None:
        usual = port in USUAL_PORTS or port >= FIRST_OPEN_PORT or port in self.ports
        if port == 0 or not (usual or self.allow_private):
            raise CallbackRefusedError(f"port {port} is none for a callback: 443, 80 or above 1023, or an allowed one")

    def _check_name(self, name: str, *, secure: bool) -> None:
        address = _literal(name)
        local = name == "localhost" or name.endswith(".localhost")
        if "%" in name or (address is None and not _is_host_name(name)):
            raise CallbackRefusedError("the callback's host is no name of letters, digits, dots and dashes")
        if address is None and name.rsplit(".", 1)[-1][:1].isdigit():
            raise CallbackRefusedError(f"{name} is neither a name nor an address in usual form")
        if not secure:
            if not self.allow_private:
                raise CallbackRefusedError("the callback must be https")
            if not local and (address is None or not _unwrapped(address).is_loopback):
                raise CallbackRefusedError("plain http is allowed to loopback only")
        if local and not self.allow_private and not self.networks:
            raise CallbackRefusedError(f"{name} is this machine")
        if address is not None and not self.allows(address):
            raise CallbackRefusedError(f"{name} is not a public address")

    def allows(self, address: Address, *, secure: bool = True) -> bool:
        """Return whether a connection may go to this address."""
        real = _unwrapped(address)
        if not secure:
            return self.allow_private and real.is_loopback
        if self.allow_private or any(real in network for network in self.networks if network.version == real.version):
            return True
        if any(real in network for network in _REFUSED if network.version == real.version):
            return False
        if isinstance(real, ipaddress.IPv6Address) and real not in _GLOBAL_UNICAST:
            return False
        return real.is_global and not real.is_multicast and not real.is_reserved


def _is_host_name(name: str) -> bool:
    """Return whether a name is one that hosts bear (RFC 1123, 2.1)."""
    return len(name) <= _MAX_NAME and all(_LABEL.match(label) for label in name.split("."))


def _literal(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 form of it leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
