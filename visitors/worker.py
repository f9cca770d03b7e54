"""Gunicorn's threaded worker with limits for each client: a request gets a thread only when it has arrived."""

from collections import deque
from concurrent.futures import Future
import errno
from fcntl import ioctl
from functools import partial
import selectors
import socket
import struct
import sys
import termios
import time
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn, ThreadWorker

END_OF_HEAD = b'\r\n\r\n'
HEAD_BYTES = 65536  # the most that a load balancer of AWS passes on
READ_BYTES = 65536
# An answer fits into this buffer of the kernel, so a thread never waits for a client that does not read.
SEND_BUFFER_BYTES = 262144
UNREAD_BYTES = 65536
WITHOUT_BODY = {'CONTENT-LENGTH': '0'}


class Connection(TConn):
    """A client's connection, with the part of its next request's head that has arrived."""

    def __init__(self, cfg: Any, client: socket.socket, address: Any, server: Any) -> None:
        """Take over an accepted socket."""
        super().__init__(cfg, client, address, server)
        self.head = bytearray()
        self.data_ready = True  # because a thread gets the connection only when it has
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def read(self) -> bool:
        """Add the bytes that have arrived to the head; return False if the client has closed the connection."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.head += data
        return bool(data)

    @property
    def has_unread_answers(self) -> bool:
        """Whether the client sends a request without reading the answers to its earlier ones."""
        if sys.platform != 'linux':
            return False
        (waiting,) = struct.unpack('i', ioctl(self.sock, termios.TIOCOUTQ, b'\0' * 4))
        return bool(waiting > UNREAD_BYTES)


class BufferingWorker(ThreadWorker):
    """A threaded worker whose main loop receives the heads of requests and closes connections.

    Gunicorn's own worker gives each accepted connection a thread. There, as many clients as threads can keep all
    others waiting by sending nothing or half a request, or by leaving their connections open after an answer.
    """

    receive_seconds = 10.0  # for a whole head, since the connection or the head's first byte
    linger_seconds = 2.0  # for a client to close its connection after the last answer
    send_seconds = 10

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Prepare a worker without connections."""
        super().__init__(*arguments, **options)
        self._closing: deque[Connection] = deque()

    def accept(self, listener: Any) -> None:
        """Accept a connection and read its first request."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker was faster, or the client has closed the connection

        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', self.send_seconds, 0))
        self.nr_conns += 1
        self._read(Connection(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: Connection, client: Any) -> None:
        """Read the next request of a connection that was kept open."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._read(conn)

    def on_pending_socket_readable(self, conn: Connection, client: Any) -> None:
        """Read more of a request whose first part has arrived."""
        is_open = conn.read()
        if is_open and not _is_enough(conn.head):
            return

        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        if is_open:
            self._begin(conn)
        else:
            self._drop(conn)

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Answer a request; close its connection if the request has a body, because the application reads none."""
        if any(WITHOUT_BODY.get(name) != value for name, value in req.headers
               if name in ('CONTENT-LENGTH', 'TRANSFER-ENCODING')):
            req.force_close()
        try:
            return bool(super().handle_request(req, conn))
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, 'the client does not read its answer') from None

    def finish_request(self, conn: Connection, fs: 'Future[bool]') -> None:
        """Keep the connection of an answered request, answer its next one, or close it."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._linger(conn)
            return

        conn.head += conn.parser.unreader.take_buffered()
        if conn.head:
            self._begin(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close the connections whose time limit has passed."""
        for waiting in (self.pending_conns, self._closing):
            while waiting and waiting[0].timeout <= time.monotonic():
                conn = waiting.popleft()
                self.poller.unregister(conn.sock)
                self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        # The worker stops. A client that has not sent its request before the deadline can send it to another instance.
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _read(self, conn: Connection) -> None:
        if conn.read():
            self._begin(conn)
        else:
            self._drop(conn)

    def _begin(self, conn: Connection) -> None:
        """Give a request a thread if its whole head has arrived; otherwise wait for the rest of it."""
        if conn.has_unread_answers:
            self._drop(conn)
        elif END_OF_HEAD in conn.head:
            conn.init()
            conn.parser.unreader.unread(bytes(conn.head))
            conn.head.clear()
            self.enqueue_req(conn)
        elif _is_enough(conn.head):
            self._refuse(conn)
        else:
            self._await_head(conn)

    def _refuse(self, conn: Connection) -> None:
        try:
            raise LimitRequestHeaders('max head size')
        except LimitRequestHeaders as error:
            self.handle_error(None, conn.sock, conn.client, error)
        self._linger(conn)

    def _await_head(self, conn: Connection) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.receive_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _linger(self, conn: Connection) -> None:
        """Close a connection after the client closes it, because a reset could overtake the answer."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return

        conn.head.clear()
        conn.timeout = time.monotonic() + self.linger_seconds
        self._closing.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: Connection, client: Any) -> None:
        if conn.read() and len(conn.head) < HEAD_BYTES:
            return

        self.poller.unregister(client)
        self._closing.remove(conn)
        self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()


def _is_enough(head: bytearray) -> bool:
    """Return whether a head is whole, or too long to become a valid one."""
    return len(head) > HEAD_BYTES or END_OF_HEAD in head
