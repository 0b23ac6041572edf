"""Which addresses notifications may go to."""

from ipaddress import ip_network
from typing import Any

import pytest

from gateway.core.subscriptions.addresses import (
    METADATA_SERVICES,
    REFUSED_IPV4,
    REFUSED_IPV6,
    Entry,
    Rules,
    Verdict,
    parse_ports,
)

PUBLIC = ["8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
          "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2600::1", "2001:200::1",
          "2001:db7:ffff::1", "2003::", "3ffe::1", "2606:4700::1111"]

#: First and last address of each network that is refused, beside some that only look public.
REFUSED = [
    *(str(address) for text in (*REFUSED_IPV4, *REFUSED_IPV6)
      for address in (ip_network(text)[0], ip_network(text)[-1])),
    "::", "::1", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::808:808", "100::1", "5f00::1",
    "fc00::1", "fdff::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "1fff::1", "4000::1",
    "2002:808:808::1", "2001:0:808:808::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe",
]


def test_the_table_is_the_registries() -> None:
    assert set(REFUSED_IPV4) == {
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    }
    assert set(REFUSED_IPV6) == {"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"}


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_address_is_allowed(ip: str) -> None:
    assert Rules().judge(ip, 443) == Rules().judge(ip, 443, trust=True) == Verdict(True)


@pytest.mark.parametrize("ip", REFUSED)
def test_address_that_is_not_public_is_refused_and_the_option_is_named(ip: str) -> None:
    verdict = Rules().judge(ip, 443, trust=True)
    assert not verdict.allowed and not verdict.excepted
    assert verdict.option == "allowed_networks" and "[notification] allowed_networks" in verdict.reason


def test_ipv4_mapped_address_is_judged_as_ipv4() -> None:
    assert Rules().judge("::ffff:8.8.8.8", 443).allowed
    rules = Rules(["10.0.0.0/8"], denied_networks=["9.9.9.9"])
    assert rules.judge("::ffff:10.1.2.3", 443).allowed
    assert not rules.judge("::ffff:9.9.9.9", 443).allowed


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0177.0.0.1", "2130706433", "::1::", "\0", "%"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert not Rules().judge(text, 443).allowed


def test_listed_network_is_an_exception() -> None:
    rules = Rules(["10.1.0.0/16", "fd00::/8", "10.2.0.1:8443", "[fd01::1]:8443"])
    for ip, port in (("10.1.2.3", 443), ("fd12::1", 443), ("10.2.0.1", 8443)):
        assert rules.judge(ip, port) == Verdict(True, option="allowed_networks", excepted=True)
    for ip, port in (("10.3.0.1", 443), ("10.2.0.1", 443), ("10.2.0.2", 8443), ("fe80::1", 443)):
        assert not rules.judge(ip, port).allowed


def test_trust_networks_count_for_trust_alone() -> None:
    rules = Rules(trust_networks=["10.1.0.0/16", "8.8.8.0/24"])
    assert not rules.judge("10.1.2.3", 443).allowed
    assert rules.judge("10.1.2.3", 443, trust=True) == Verdict(True, option="trust_networks", excepted=True)
    assert rules.judge("8.8.8.8", 443, trust=True) == Verdict(True, option="trust_networks")
    assert rules.judge("8.8.4.4", 443, trust=True) == Verdict(True)


def test_denied_networks_win() -> None:
    rules = Rules(["10.0.0.0/8"], ["10.0.0.0/8"], ["10.1.0.0/16", "8.8.8.8", "9.9.9.9/32:8443"])
    for ip, port in (("10.1.2.3", 443), ("8.8.8.8", 443), ("9.9.9.9", 8443)):
        verdict = rules.judge(ip, port, trust=True)
        assert not verdict.allowed and verdict.option == "denied_networks"
        assert "denied_networks" in verdict.reason and "/" not in verdict.reason
    assert rules.judge("10.2.0.1", 443).allowed and rules.judge("9.9.9.9", 443).allowed


@pytest.mark.parametrize("ip", sorted(map(str, METADATA_SERVICES)))
def test_metadata_service_must_be_listed_by_itself(ip: str) -> None:
    everything = ["0.0.0.0/0", "::/0"]
    verdict = Rules(everything, everything).judge(ip, 80, trust=True)
    assert not verdict.allowed and "exactly" in verdict.reason and verdict.option == "allowed_networks"
    assert Rules([ip]).judge(ip, 80) == Verdict(True, option="allowed_networks", excepted=True)
    with_port = f"[{ip}]:80" if ":" in ip else f"{ip}:80"
    assert Rules([with_port]).judge(ip, 80).allowed
    assert not Rules([with_port]).judge(ip, 81).allowed
    assert "168.63.129.16" in map(str, METADATA_SERVICES)


def test_own_sockets_must_be_listed_with_the_port() -> None:
    own = [("127.0.0.1", 8888), ("8.8.8.8", 5672), ("::1", 8888)]
    wide = Rules(["127.0.0.0/8", "8.8.8.8"], own=own)
    assert wide.judge("127.0.0.1", 8889).allowed
    for ip, port in (("127.0.0.1", 8888), ("8.8.8.8", 5672), ("::ffff:127.0.0.1", 8888), ("::1", 8888)):
        verdict = wide.judge(ip, port)
        assert not verdict.allowed and "own" in verdict.reason and verdict.option == "allowed_networks"
    assert Rules(["127.0.0.1:8888"], own=own).judge("127.0.0.1", 8888).allowed
    assert not Rules(trust_networks=["127.0.0.1:8888"], own=own).judge("127.0.0.1", 8888).allowed
    assert Rules(trust_networks=["127.0.0.1:8888"], own=own).judge("127.0.0.1", 8888, trust=True).allowed


@pytest.mark.parametrize(("port", "allowed"), [
    (80, True), (443, True), (1024, True), (65535, True), (22, False), (25, False), (1023, False), (0, False),
])
def test_ports(port: int, allowed: bool) -> None:
    verdict = Rules().judge("8.8.8.8", port)
    assert verdict.allowed is allowed
    assert allowed or (verdict.option == "allowed_ports" and "allowed_ports" in verdict.reason)


def test_port_is_an_exception_only_if_listed_with_it() -> None:
    assert not Rules(["8.8.8.8", "10.0.0.0/8"]).judge("8.8.8.8", 22).allowed
    assert not Rules(["8.8.8.8", "10.0.0.0/8"]).judge("10.0.0.1", 22).allowed
    assert Rules(["8.8.8.8:22"]).judge("8.8.8.8", 22).allowed
    assert Rules(allowed_ports="22").judge("8.8.8.8", 22).allowed
    assert not Rules(allowed_ports="22").judge("8.8.8.8", 443).allowed


def test_entries() -> None:
    for text, network, port in (
        ("10.0.0.0/8", "10.0.0.0/8", None), ("10.0.0.1", "10.0.0.1/32", None), ("10.0.0.0/8:80", "10.0.0.0/8", 80),
        ("fd00::/8", "fd00::/8", None), ("fd00::1:8080", "fd00::1:8080/128", None), ("[fd00::/8]:80", "fd00::/8", 80),
        ("[::1]", "::1/128", None),
    ):
        assert Entry.parse(text) == Entry(ip_network(network), port)


@pytest.mark.parametrize("text", [
    "x", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8:0", "10.0.0.0/8:65536", "10.0.0.0/8:", "10.0.0.0/8:x", "300.0.0.1",
    "[fd00::/8", "[fd00::/8]:0", "::ffff:10.0.0.0/104", "localhost", "10.0.0.0/8 :80", "٣.0.0.1", "10.0.0.1:٣",
])
def test_bad_entry_is_refused_with_a_sentence(text: str) -> None:
    for option in ("allowed_networks", "trust_networks", "denied_networks"):
        arguments: dict[str, Any] = {option: [text]}
        with pytest.raises(ValueError, match=rf"^\[notification\] {option}: .* must ") as caught:
            Rules(**arguments)
        assert text in str(caught.value) or repr(text) in str(caught.value)


def test_lists_of_ports() -> None:
    assert parse_ports("80, 443,8000-8002,") == {80, 443, 8000, 8001, 8002}
    for text in ("0", "65536", "a", "80-79", "-80", "1-2-3", "٣", "80 443"):
        with pytest.raises(ValueError, match=r"\[notification\] allowed_ports"):
            parse_ports(text)
