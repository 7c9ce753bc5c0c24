"""Which callbacks may be called: https, to public addresses, judged by the address that is really connected to.

A name is checked each time it is resolved, just before the connection, and the connection goes to the very address
that was checked; so a name that changes its mind in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2_048

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class CallbackRefusedError(ValueError):
    """The callback may not be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackPolicy:
    """The addresses allowed beyond public https ones.

    `allow_private`: every address, and plain http to loopback. `networks`: these addresses too, over https.
    """

    allow_private: bool = False
    networks: tuple[Network, ...] = ()

    def check_url(self, url: object) -> tuple[str, str]:
        """The callback's base URL in normal form, and its host key `scheme://name:port`.

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
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "\\" in url:
            raise CallbackRefusedError("the callback may have no user, query or fragment")
        self._check_name(name, secure=parts.scheme == "https")
        shown = f"[{name}]" if ":" in name else name
        host = f"{parts.scheme}://{shown}:{port or (443 if parts.scheme == 'https' else 80)}"
        return url.rstrip("/"), host

    def _check_name(self, name: str, *, secure: bool) -> None:
        address = _literal(name)
        local = name == "localhost" or name.endswith(".localhost")
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
        return real.is_global and not real.is_multicast and not real.is_reserved


def _literal(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 form of it leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
