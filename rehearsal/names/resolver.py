"""The DNS server of a rehearsal, for the names of its API and its hosted zones.

AWS's counterpart is the Route 53 Resolver: https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, IPv4Address
import logging
import os
import socket
from threading import Thread

from dnslib import A, DNSError, DNSHeader, DNSRecord, QTYPE, RCODE, RR

from rehearsal.errors import RehearsalError
from rehearsal.naming import rotated

PORT = 53  # resolv.conf names an address and no port
LONGEST_QUESTION = 4096
TTL_SECONDS = 1
# Loopback addresses, because the servers of several rehearsals run side by side and none may take the host's own.
ADDRESSES = [IPv4Address('127.70.0.0') + place for place in range(1, 255)]

AddressOf = Callable[[str], str | None]
logger = logging.getLogger(__name__)


class Resolver:
    """A DNS server: a datagram socket and the thread that answers its questions."""

    def __init__(self, listener: socket.socket, address_of: AddressOf) -> None:
        """Answer until `close`; a name without an address does not exist."""
        self._listener = listener
        self._address_of = address_of
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        # Closing a socket does not wake a thread that waits for it; shutting it down does.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # a datagram socket without a peer is not connected, but its thread wakes all the same
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            question, client = self._listener.recvfrom(LONGEST_QUESTION)
            if not question:
                return
            reply = answer(question, self._address_of)
            if reply:
                self._listener.sendto(reply, client)


def answer(question: bytes, address_of: AddressOf) -> bytes | None:
    """Return the reply to a question; None for bytes that are no question of DNS.

    An error is answered by SERVFAIL, because silence would cost the client its whole time limit.
    """
    try:
        request = DNSRecord.parse(question)
    except DNSError:
        return _malformed(question)
    try:
        return bytes(_reply(request, address_of).pack())
    except Exception:
        logger.exception('cannot resolve %s', request.q.qname)
        failure = request.reply()
        failure.header.rcode = RCODE.SERVFAIL
        return bytes(failure.pack())


def _malformed(question: bytes) -> bytes | None:
    if len(question) < 2:
        return None
    header = DNSHeader(id=int.from_bytes(question[:2], 'big'), qr=1, rcode=RCODE.FORMERR)
    return bytes(DNSRecord(header).pack())


def _reply(request: DNSRecord, address_of: AddressOf) -> DNSRecord:
    reply = request.reply()
    address = address_of(str(request.q.qname).lower().rstrip('.'))
    if address is None:
        reply.header.rcode = RCODE.NXDOMAIN
    elif QTYPE[request.q.qtype] in ('A', 'ANY'):
        # All names here have IPv4 addresses only; a question for another kind gets an empty answer, not an error.
        reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=TTL_SECONDS, rdata=A(address)))
    return reply


def local_address(name: str) -> str | None:
    """Return the address of `localhost` and of each name below it; None for any other name.

    The AWS SDKs put a bucket's name or an account's number before the host of the endpoint, as in
    `123456789012.localhost`, and a Go program asks the DNS server for it.
    """
    return '127.0.0.1' if name == 'localhost' or name.endswith('.localhost') else None


@contextmanager
def resolver(name: str, address_of: AddressOf) -> Iterator[str | None]:
    """Give the address of a running DNS server of a rehearsal; None without root, which port 53 needs."""
    if os.geteuid():
        yield None
        return

    listener = _bind(name)
    running = Resolver(listener, address_of)
    try:
        yield str(ip_address(listener.getsockname()[0]))
    finally:
        running.close()


def _bind(name: str) -> socket.socket:
    """Return a socket at the first free address, beginning at one that depends on the rehearsal's name."""
    for address in rotated(ADDRESSES, name):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            listener.bind((str(address), PORT))
        except OSError:
            listener.close()
        else:
            return listener
    raise RehearsalError(f'no free address for a DNS server from {ADDRESSES[0]} to {ADDRESSES[-1]}, port {PORT}')
