"""Which addresses notifications may be sent to.

A subscriber's URL is a tenant's, the gateway's network is the operator's: what is not public is refused unless the
operator lists it. The table is kept as data, because ``ipaddress.is_global`` calls some of it global: multicast, 6to4
and NAT64 among others. Sources: the IANA registries of special-purpose IPv4 and IPv6 addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: IPv4 networks that are refused, and what they are.
REFUSED_IPV4 = {
    "0.0.0.0/8": "this network", "10.0.0.0/8": "a private network", "100.64.0.0/10": "shared by providers",
    "127.0.0.0/8": "loopback", "169.254.0.0/16": "link-local", "172.16.0.0/12": "a private network",
    "192.0.0.0/24": "reserved for protocols", "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "6to4 relays", "192.168.0.0/16": "a private network", "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation", "203.0.113.0/24": "for documentation", "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved", "255.255.255.255/32": "broadcast",
}

#: The IPv6 addresses that are public, but for those in REFUSED_IPV6.
PUBLIC_IPV6 = IPv6Network("2000::/3")

REFUSED_IPV6 = {
    "2001::/23": "reserved for protocols such as Teredo", "2001:db8::/32": "for documentation", "2002::/16": "6to4",
    "3fff::/20": "for documentation",
}

#: Services of clouds that hand out credentials to whoever asks from within: AWS, GCP, Azure and OpenStack; ECS; AWS
#: over IPv6; Alibaba; Oracle; Azure's WireServer, which looks public.
METADATA_SERVICES = frozenset(map(ip_address, (
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
)))

DEFAULT_PORTS = "80,443,1024-65535"

#: Verdicts that are remembered.
KNOWN = 4096

#: ``CIDR``, ``CIDR:port``, ``[IPv6 CIDR]:port``.
_ENTRY = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[0-9./]+))(?::(?P<port>[0-9]{1,5}))?\Z", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z", re.ASCII)

_TABLE: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what) for network, what in (*REFUSED_IPV4.items(), *REFUSED_IPV6.items())
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A network of an option; ``port`` None stands for every port."""

    network: Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Entry:
        """From ``CIDR[:port]``, IPv6 with a port as ``[CIDR]:port``. Raises ValueError with a sentence."""
        match = _ENTRY.match(text)
        written, port = (match["six"] or match["four"], match["port"]) if match else (text, None)
        try:
            network = ip_network(written)
        except ValueError as error:
            raise ValueError(
                f"{text!r} must be a network such as 10.1.0.0/16, 10.1.2.3:8080 or [fd00::/8]:8080: {error}"
            ) from error
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
            raise ValueError(f"{text!r} must be written as the IPv4 network that it stands for")
        if port is not None and not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} must have a port from 1 to 65535")
        return cls(network, int(port) if port else None)

    def holds(self, address: Address, port: int) -> bool:
        """Is this address and port in it?"""
        return address in self.network and self.port in (None, port)

    def names(self, address: Address) -> bool:
        """Is it this one address?"""
        return self.network.num_addresses == 1 and address in self.network


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an address may be connected to.

    ``reason``: why not, as a sentence for the operator; empty if allowed. ``option``: the option of ``[notification]``
    that decides: it has refused the address, could allow it, or has listed it; empty if none plays a part.
    ``excepted``: it is allowed only because it is listed, so tenants must not see what answers there.
    """

    allowed: bool
    reason: str = ""
    option: str = ""
    excepted: bool = False


class Rules:
    """The operator's rules. Raises ValueError with a sentence if they can't be read.

    ``own``: address and port of the gateway's sockets, its brokers and its side-stores: real addresses, not wildcards.
    ``trust_networks`` count for ``trust+`` subscribers alone, ``denied_networks`` go before all others.
    """

    def __init__(
        self, allowed_networks: Iterable[str] = (), trust_networks: Iterable[str] = (),
        denied_networks: Iterable[str] = (), allowed_ports: str = DEFAULT_PORTS,
        own: Iterable[tuple[str, int]] = (),
    ):
        self._allowed = _parse("allowed_networks", allowed_networks)
        self._trusted = _parse("trust_networks", trust_networks)
        self._denied = _parse("denied_networks", denied_networks)
        self._ports = parse_ports(allowed_ports)
        self._own = frozenset((_unwrap(ip_address(_without_zone(ip))), port) for ip, port in own)
        # Each delivery asks several times, and the rules never change.
        self._known = lru_cache(KNOWN)(self._judge)

    def judge(self, ip: str, port: int, trust: bool = False, plain: bool = False) -> Verdict:
        """May a notification go to this address? ``trust``: for a ``trust+`` subscriber. Never raises.

        An address in ``trust_networks`` is allowed by that option for ``trust``, even if it is public. ``plain``:
        without TLS, tokens go to those addresses alone.
        """
        return self._known(ip, port, trust, plain)

    def _judge(self, ip: str, port: int, trust: bool, plain: bool) -> Verdict:
        try:
            address = _unwrap(ip_address(_without_zone(ip)))
        except ValueError:
            return Verdict(False, f"{ip!r} is not an IP address")
        if any(entry.holds(address, port) for entry in self._denied):
            return Verdict(
                False, f"{address} port {port} is listed in [notification] denied_networks", "denied_networks"
            )
        refused = self._why_refused(address, port)
        if trust and self._lists(self._trusted, address, port):
            return Verdict(True, option="trust_networks", excepted=refused is not None)
        if trust and plain:
            return Verdict(
                False, f"{address} port {port} is not listed in [notification] trust_networks; without TLS tokens go"
                " nowhere else", "trust_networks"
            )
        if refused is None:
            return Verdict(True)
        if self._lists(self._allowed, address, port):
            return Verdict(True, option="allowed_networks", excepted=True)
        return Verdict(False, *refused)

    def _lists(self, entries: Iterable[Entry], address: Address, port: int) -> bool:
        """Do these entries allow the address, however it is refused otherwise?"""
        holding = [entry for entry in entries if entry.holds(address, port)]
        named_with_port = any(entry.port == port for entry in holding)
        return (
            bool(holding)
            and (named_with_port or port in self._ports)
            and (named_with_port or (address, port) not in self._own)
            and (address not in METADATA_SERVICES or any(entry.names(address) for entry in holding))
        )

    def _why_refused(self, address: Address, port: int) -> tuple[str, str] | None:
        """Reason and option if it is refused when it is not listed."""
        if (address, port) in self._own:
            return (f"{address} port {port} is the gateway's own, its broker's or its side-store's; only an entry with"
                    " the port in [notification] allowed_networks allows it", "allowed_networks")
        if address in METADATA_SERVICES:
            return (f"{address} is a cloud's metadata service; only an entry of exactly this address in [notification]"
                    " allowed_networks allows it", "allowed_networks")
        what = _why_not_public(address)
        if what is not None:
            return (f"{address} is not public ({what}); an entry in [notification] allowed_networks allows it",
                    "allowed_networks")
        if port not in self._ports:
            return f"port {port} is not in [notification] allowed_ports", "allowed_ports"
        return None


def parse_ports(text: str) -> frozenset[int]:
    """The ports in a list such as ``80,443,1024-65535``. Raises ValueError with a sentence."""
    ports: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PORTS.match(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < first <= last < 65536:
            raise ValueError(f"[notification] allowed_ports: {part!r} must be a port or a range such as 1024-65535")
        ports.update(range(first, last + 1))
    return frozenset(ports)


def _parse(option: str, texts: Iterable[str]) -> tuple[Entry, ...]:
    try:
        return tuple(Entry.parse(text.strip()) for text in texts if text.strip())
    except ValueError as error:
        raise ValueError(f"[notification] {option}: {error}") from error


def _without_zone(ip: str) -> str:
    return ip.partition("%")[0]


def _unwrap(address: Address) -> Address:
    """The IPv4 address in an IPv4-mapped one (RFC 4291, 2.5.5.2): that is what the kernel connects to."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _why_not_public(address: Address) -> str | None:
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return "outside 2000::/3"
    return next((f"{network}, {what}" for network, what in _TABLE if address in network), None)
