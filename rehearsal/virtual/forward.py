"""The process that QEMU starts for each connection of a guest: it carries bytes between its stdio and a port.

It runs as a file, without the package and its dependencies, so that it starts at once.
"""

import os
import socket
import sys
import threading

SIZE = 65536


def main(port: int) -> None:
    """Carry bytes both ways until the server closes its end, or QEMU ends."""
    server = socket.create_connection(('127.0.0.1', port))
    threading.Thread(target=_send, args=[server], daemon=True).start()
    while data := server.recv(SIZE):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _send(server: socket.socket) -> None:
    while data := os.read(sys.stdin.fileno(), SIZE):
        server.sendall(data)
    server.shutdown(socket.SHUT_WR)


if __name__ == '__main__':
    main(int(sys.argv[1]))
