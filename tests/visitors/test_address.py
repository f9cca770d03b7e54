"""The visitor of a request, with every form of header that proxies and forgers write."""

from ipaddress import ip_address, IPv4Address, IPv6Address

from hypothesis import given, strategies as st
import pytest

from visitors.address import client_network, network_of, parse_address, visitor_id

PEER = '192.0.2.254'
PEER_NETWORK = bytes([192, 0, 2, 254])
KEY = b'k' * 32
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
# Without a comma: a client may write several before the balancer's entry, but one entry has no comma.
JUNK = st.text(st.characters(exclude_characters=',', codec='latin-1'), max_size=40)


@pytest.mark.parametrize(('text', 'address'), [
    ('198.51.100.7', '198.51.100.7'),
    (' 198.51.100.7 ', '198.51.100.7'),
    ('"198.51.100.7"', '198.51.100.7'),
    (' " 198.51.100.7 " ', '198.51.100.7'),
    ('198.51.100.7:567', '198.51.100.7'),
    ('198.51.100.7:', '198.51.100.7'),
    ('"198.51.100.7:567"', '198.51.100.7'),
    ('2001:db8::1', '2001:db8::1'),
    ('[2001:db8::1]', '2001:db8::1'),
    ('[2001:db8::1]:443', '2001:db8::1'),
    ('[2001:db8::1]:', '2001:db8::1'),
    ('"[2001:db8::1]:443"', '2001:db8::1'),
    ('fe80::1%eth0', 'fe80::1'),
    ('[fe80::1%25eth0]:80', 'fe80::1'),
    ('::ffff:198.51.100.7', '198.51.100.7'),
    ('[::ffff:198.51.100.7]:80', '198.51.100.7'),
    ('2001:DB8:0:0:0:0:0:1', '2001:db8::1'),
])
def test_an_address_is_read_in_every_form_that_proxies_write(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize('text', [
    '', ' ', '-', 'unknown', '_hidden', 'n/a', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '1.2.3.4:x', '[1.2.3.4',
    '2001:db8::1]:80', '2001:db8:::1', 'for=192.0.2.60', 'example.com', '3232235777', '1.2.3.4:80:90', '"', '[]',
    '[2001:db8::1]x', 'x[2001:db8::1]', 'X198.51.100.7', '198.51.100.7X', '١.٢.٣.٤',
])
def test_what_is_not_an_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@given(ADDRESSES)
def test_every_address_is_read_back_from_its_own_text(address: IPv4Address | IPv6Address) -> None:
    mapped = address.ipv4_mapped if address.version == 6 else None
    assert parse_address(str(address)) == (mapped or address)


@given(st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    parsed = parse_address(text)
    assert parsed is None or parsed.version in (4, 6)


@given(st.ip_addresses(v=6), st.integers(0, 2 ** 64 - 1))
def test_all_addresses_of_a_64_are_one_visitor(address: IPv6Address, host: int) -> None:
    neighbour = IPv6Address((int(address) >> 64 << 64) | host)
    assert network_of(neighbour) == network_of(address)


@given(st.ip_addresses(v=6), st.integers(64, 127))
def test_another_64_is_another_visitor(address: IPv6Address, bit: int) -> None:
    assert network_of(IPv6Address(int(address) ^ (1 << bit))) != network_of(address)


@given(st.ip_addresses(v=4), st.integers(0, 31))
def test_another_ipv4_address_is_another_visitor(address: IPv4Address, bit: int) -> None:
    assert network_of(IPv4Address(int(address) ^ (1 << bit))) != network_of(address)


@given(st.lists(JUNK, max_size=5), ADDRESSES, st.integers(1, 4), st.data())
def test_the_entry_of_the_outermost_trusted_proxy_counts_whatever_stands_left_of_it(
        junk: list[str], address: IPv4Address | IPv6Address, proxies: int, data: st.DataObject) -> None:
    right = data.draw(st.lists(JUNK, min_size=proxies - 1, max_size=proxies - 1))
    header = ','.join([*junk, str(address), *right])
    expected = parse_address(str(address))
    assert expected
    assert client_network(PEER, header, proxies) == network_of(expected)


@given(st.text())
def test_without_a_trusted_proxy_the_header_says_nothing(header: str) -> None:
    assert client_network(PEER, header, 0) == PEER_NETWORK


@given(st.lists(ADDRESSES, max_size=3))
def test_fewer_entries_than_trusted_proxies_mean_the_peer(entries: list[IPv4Address | IPv6Address]) -> None:
    assert client_network(PEER, ','.join(map(str, entries)), len(entries) + 1) == PEER_NETWORK


@pytest.mark.parametrize('header', [
    '', ' ', ',', 'unknown', '198.51.100.7,', '198.51.100.7, unknown', '203.0.113.300',
])
def test_an_entry_that_is_not_an_address_means_the_peer(header: str) -> None:
    assert client_network(PEER, header, 1) == PEER_NETWORK


def test_an_open_quote_does_not_hide_the_balancers_entry() -> None:
    assert client_network(PEER, '"x, 198.51.100.7', 1) == bytes([198, 51, 100, 7])


def test_a_peer_without_an_address_is_nobody() -> None:
    assert client_network('', 'unknown', 1) is None


def test_the_hash_is_16_bytes_and_depends_on_key_and_network() -> None:
    hashed = visitor_id(KEY, PEER_NETWORK)
    assert len(hashed) == 16
    assert visitor_id(KEY, PEER_NETWORK) == hashed
    assert visitor_id(b'K' * 32, PEER_NETWORK) != hashed
    assert visitor_id(KEY, bytes([192, 0, 2, 253])) != hashed


def test_an_ipv4_address_and_the_64_that_begins_with_it_are_two_visitors() -> None:
    assert network_of(IPv4Address('32.1.13.184')) != network_of(IPv6Address('2001:db8::'))


def test_the_hash_stays_the_one_that_databases_hold() -> None:
    # Changing it makes every visitor new: the stored hashes were made this way.
    assert visitor_id(KEY, PEER_NETWORK).hex() == 'ecbd9843001a05df113e772a617832af'
