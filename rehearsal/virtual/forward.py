"""What QEMU starts for each connection of a guest: it carries bytes between standard input and output and a port here.

It is run as a file, without the package and without anything installed, so that it starts in no time.
"""

import os
import socket
import sys
import threading

SIZE = 65536


def main(port: int) -> None:
    """Carry bytes both ways until the server has closed its end, or QEMU is gone."""
    server = socket.create_connection(('127.0.0.1', port))
    threading.Thread(target=_send, args=[server], daemon=True).start()
    while received := server.recv(SIZE):
        sys.stdout.buffer.write(received)
        sys.stdout.buffer.flush()


def _send(server: socket.socket) -> None:
    while read := os.read(sys.stdin.fileno(), SIZE):
        server.sendall(read)
    server.shutdown(socket.SHUT_WR)


if __name__ == '__main__':
    main(int(sys.argv[1]))
