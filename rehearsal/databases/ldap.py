"""A directory server of one operation, by which PostgreSQL asks whether a password is valid: LDAP's simple bind.

https://www.rfc-editor.org/rfc/rfc4511#section-4.2; docs/decisions/0023-ldap-for-iam-tokens.md says why.
"""

from collections.abc import Callable
import logging
import socketserver
from threading import Thread

# Tags of BER and of LDAP's messages.
SEQUENCE, INTEGER, OCTETS, ENUMERATED, BIND, BIND_ANSWER, SIMPLE = 0x30, 0x02, 0x04, 0x0a, 0x60, 0x61, 0x80
SUCCESS, INVALID_CREDENTIALS = 0, 49
LONGEST_MESSAGE = 128 * 1024

# Whether a password is valid for a name.
Check = Callable[[str, str], bool]
logger = logging.getLogger(__name__)


class Directory(socketserver.ThreadingTCPServer):
    """A server on the loopback, at a free port, and the threads that answer on it."""

    daemon_threads = True

    def __init__(self, check: Check) -> None:
        """Answer each bind by a check, until `close`."""
        super().__init__(('127.0.0.1', 0), _Connection)
        self.check = check
        self.port = int(self.server_address[1])
        self._thread = Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Connection(socketserver.StreamRequestHandler):
    """One connection; anything but a simple bind ends it."""

    server: Directory

    def handle(self) -> None:
        """Answer binds until the client unbinds."""
        try:
            while message := self._message():
                number, name, password = parse_bind(message)
                code = SUCCESS if self.server.check(name, password) else INVALID_CREDENTIALS
                self.wfile.write(bind_answer(number, code))
        except (ValueError, IndexError, ConnectionError) as error:
            logger.info('directory: %s', error)

    def _message(self) -> bytes:
        """Return the content of the next message; nothing at the end of the connection."""
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] != SEQUENCE:
            return b''
        length = head[1]
        if length & 0x80:
            length = int.from_bytes(self.rfile.read(length & 0x7f), 'big')
        if length > LONGEST_MESSAGE:
            raise ValueError(f'a message of {length} bytes')
        return self.rfile.read(length)


def parse_bind(message: bytes) -> tuple[bytes, str, str]:
    """Return the number, name and password of a simple bind; raise ValueError for any other message."""
    number, rest = element(message, INTEGER)
    request, _ = element(rest, BIND)
    _, rest = element(request, INTEGER)  # the version of the protocol
    name, rest = element(rest, OCTETS)
    password, _ = element(rest, SIMPLE)
    return number, name.decode(), password.decode()


def bind_answer(number: bytes, code: int) -> bytes:
    """Return the answer to a bind."""
    result = _encoded(ENUMERATED, bytes([code])) + _encoded(OCTETS, b'') + _encoded(OCTETS, b'')
    return _encoded(SEQUENCE, _encoded(INTEGER, number) + _encoded(BIND_ANSWER, result))


def element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the first element of BER and the bytes after it; raise ValueError for another tag."""
    if data[0] != tag:
        raise ValueError(f'tag {data[0]:#x} instead of {tag:#x}')
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7f
        length = int.from_bytes(data[2:start], 'big')
    return data[start:start + length], data[start + length:]


def _encoded(tag: int, content: bytes) -> bytes:
    """Return a short element."""
    return bytes([tag, len(content)]) + content
