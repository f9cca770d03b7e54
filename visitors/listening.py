"""A check of the address and port to listen on, which names the program that holds them."""

from collections.abc import Iterator
from contextlib import suppress
import errno
from pathlib import Path
import re
import socket

LISTENING = '0A'  # the state in /proc/net/tcp
OTHER_PORTS = 20


def obstacle(host: str, port: int) -> str | None:
    """Return in one line why a server cannot listen there and what to do, or None if it can."""
    try:
        _try(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            return (f'HOST={host} is no address of this machine; use 127.0.0.1 for this machine alone, or '
                    '0.0.0.0 for all networks')
        if error.errno == errno.EACCES:
            return f'PORT={port} needs root, as all ports below 1024 do; use another port: make run PORT=8000'
        if error.errno == errno.EADDRINUSE:
            return (f'port {port} of {host} is taken by {_program_at(port)}; '
                    f'end it or use another port: make run PORT={_free_port(host, port)}')
        return f'HOST={host} and PORT={port} cannot be used: {error.strerror}'
    return None


def _try(host: str, port: int) -> None:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _free_port(host: str, taken: int) -> int:
    for port in range(taken + 1, min(taken + OTHER_PORTS, 65536)):
        with suppress(OSError):
            _try(host, port)
            return port
    return 0  # then the system chooses one


def _program_at(port: int) -> str:
    """Return the name and process id of the program that listens on a port, if Linux shows them to this user."""
    sockets = {f'socket:[{inode}]' for inode in _inodes(port)}
    for descriptor in Path('/proc').glob('[0-9]*/fd/*') if sockets else ():
        with suppress(OSError):
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parent.parent
                return f'{(process / "comm").read_text(encoding="utf-8").strip()} (process {process.name})'
    return 'another program, perhaps `make up` or another `make run`'


def _inodes(port: int) -> Iterator[str]:
    for table in (Path('/proc/net/tcp'), Path('/proc/net/tcp6')):
        with suppress(OSError):
            for line in table.read_text(encoding='ascii').splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                if state == LISTENING and re.fullmatch(rf'[0-9A-F]+:{port:04X}', local):
                    yield inode
