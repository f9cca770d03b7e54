"""The network namespace of a machine: addresses of its own, and sockets of this process that listen inside it."""

from concurrent.futures import ThreadPoolExecutor
import ctypes
import json
import os
import socket
import subprocess
from typing import Any

from rehearsal.errors import RehearsalError

CLONE_NEWNET = 0x40000000  # linux/sched.h; os.setns has come with Python 3.12 only
libc = ctypes.CDLL(None, use_errno=True)


class Leak(RehearsalError):
    """A machine's namespace would let out what has to stay in it, so the machine is not started."""


class Namespace:
    def __init__(self, process: int) -> None:
        """Speak of the network namespace that a process is in."""
        self._path = f'/proc/{process}/ns/net'

    def own(self, address: str) -> None:
        """Make an address this namespace's own, so that nothing sent to it ever leaves."""
        self._ip('address', 'replace', f'{address}/32', 'dev', 'lo')

    def check_is_own(self, address: str) -> None:
        """Refuse a namespace out of which packets to an address could get."""
        route = self._ip('route', 'get', address)
        if not route or route[0].get('type') != 'local':
            raise Leak(f'{address} is not local to the namespace: {route}')

    def shut(self) -> None:
        """Take away all routes but the one to its own network; Docker gives a way out also to an internal one."""
        self._ip('route', 'flush', 'default')

    def check_has_no_way_out(self) -> None:
        """Refuse a namespace with a route to anywhere but its own network."""
        routes = self._ip('route', 'show', 'default')
        if routes:
            raise Leak(f'the namespace has a way out: {routes}')

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a socket that listens in this namespace, wherever the threads that use it are."""
        with ThreadPoolExecutor(1) as thread:  # only the thread goes there, and it ends
            return thread.submit(self._go_and_listen, address, port).result()

    def _go_and_listen(self, address: str, port: int) -> socket.socket:
        place = os.open(self._path, os.O_RDONLY)
        try:
            if libc.setns(place, CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), self._path)
        finally:
            os.close(place)
        return socket.create_server((address, port), backlog=64)

    def _ip(self, *arguments: str) -> list[dict[str, Any]]:
        command = ['nsenter', f'--net={self._path}', 'ip', '-json', *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RehearsalError(f'{" ".join(command)}: {done.stderr.strip()}')
        return list(json.loads(done.stdout or '[]'))
