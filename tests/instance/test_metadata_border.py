"""Only root reaches the metadata service: the AMI's packet filter, loaded into the kernel of a host of its own."""

from collections.abc import Iterator
from contextlib import ExitStack
import re
import subprocess
import sys

import pytest

from instance.checks import CONNECT_PROGRAM, METADATA_ADDRESSES
from instance.container import USER
from tests.support.separate_host import another_host, Host
from tests.support.server import ROOT
from tests.support.waiting import eventually

RULES = ROOT / 'packer/ansible/roles/hardening/files/etc/nftables.conf'
# Amazon's resolver and clock, which every user of a machine may need; the last is a neighbour of the IPv6 address.
OTHERS = ('169.254.169.253', '169.254.169.123', 'fd00:ec2::253')
NOBODY, LOGIN = 65534, 1000
CONNECT = 'import socket, sys; socket.create_connection((sys.argv[1], 80), 20)'


@pytest.fixture(scope='module')
def host() -> Iterator[Host]:
    """Give a host that has all these addresses, with a server at each, and the AMI's rules."""
    with ExitStack() as stack:
        host = stack.enter_context(another_host())
        run(host, 'ip', 'link', 'set', 'lo', 'up')
        for address in (*METADATA_ADDRESSES, *OTHERS):
            run(host, 'ip', 'address', 'add', address, 'dev', 'lo', *(['nodad'] if ':' in address else []))
            server = subprocess.Popen([*host.prefix, sys.executable, '-m', 'http.server', '--bind', address, '80'],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)
        eventually(lambda: reached(host, NOBODY) == {*METADATA_ADDRESSES, *OTHERS}, 'all servers answer everyone')
        run(host, 'nft', '--file', str(RULES))
        yield host


def run(host: Host, *command: str) -> str:
    return subprocess.run([*host.prefix, *command], check=True, capture_output=True, text=True, timeout=60).stdout


def reached(host: Host, user: int) -> set[str]:
    """Return the addresses that a user's process reaches, by the program of the self-test."""
    return set(run(host, *as_user(user), '-c', CONNECT_PROGRAM, *METADATA_ADDRESSES, *OTHERS).split())


def as_user(user: int) -> list[str]:
    """Return the command of Debian's Python as a user; the tests' own Python may be readable by root only."""
    return ['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', '--bounding-set=-all',
            '/usr/bin/python3']


@pytest.mark.parametrize('user', [USER, LOGIN, NOBODY], ids=['application', 'login', 'nobody'])
def test_a_user_reaches_no_address_of_the_metadata_service_and_all_others(host: Host, user: int) -> None:
    assert reached(host, user) == set(OTHERS)


def test_root_reaches_the_metadata_service_by_both_addresses(host: Host) -> None:
    assert reached(host, 0) == {*METADATA_ADDRESSES, *OTHERS}


@pytest.mark.parametrize('address', METADATA_ADDRESSES)
def test_a_user_is_refused_at_once_instead_of_waiting(host: Host, address: str) -> None:
    result = subprocess.run([*host.prefix, *as_user(USER), '-c', CONNECT, address], check=False,
                            capture_output=True, text=True, timeout=60)
    assert re.search('(No route to host|Permission denied)$', result.stderr.strip()), result.stderr
