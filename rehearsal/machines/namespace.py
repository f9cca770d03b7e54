"""The network namespace of a machine: addresses of its own, and sockets of this process that listen inside it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import ctypes
import json
import os
import socket
import subprocess
from typing import Any, TypeVar

from rehearsal.errors import RehearsalError

CLONE_NEWNET = 0x40000000  # linux/sched.h; os.setns exists since Python 3.12
Result = TypeVar('Result')
libc = ctypes.CDLL(None, use_errno=True)


class Leak(RehearsalError):
    """The error that packets could leave a machine's network, so that the machine is not started."""


class Namespace:
    """The network namespace of a process."""

    def __init__(self, process: int) -> None:
        """Name the namespace of this process."""
        self._path = f'/proc/{process}/ns/net'

    def own(self, address: str) -> None:
        """Make an address this namespace's own, so that no packet to it leaves."""
        self._ip('address', 'replace', f'{address}/32', 'dev', 'lo')

    def check_is_own(self, address: str) -> None:
        """Refuse a namespace that packets to an address could leave."""
        route = self._ip('route', 'get', address)
        if not route or route[0].get('type') != 'local':
            raise Leak(f'{address} is not local to the namespace: {route}')

    def shut(self) -> None:
        """Remove the default routes, because Docker adds one even to an internal network."""
        self._ip('route', 'flush', 'default')

    def check_has_no_way_out(self) -> None:
        """Refuse a namespace with a default route."""
        routes = self._ip('route', 'show', 'default')
        if routes:
            raise Leak(f'the namespace has a default route: {routes}')

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a socket that listens in this namespace; threads of any namespace can use it."""
        return self.inside(lambda: socket.create_server((address, port), backlog=64))

    def inside(self, act: Callable[[], Result]) -> Result:
        """Return the result of an act of a thread that is in this namespace."""
        with ThreadPoolExecutor(1) as thread:  # only this thread enters the namespace, and it ends
            return thread.submit(self._go_and, act).result()

    def _go_and(self, act: Callable[[], Result]) -> Result:
        namespace = os.open(self._path, os.O_RDONLY)
        try:
            if libc.setns(namespace, CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), self._path)
        finally:
            os.close(namespace)
        return act()

    def _ip(self, *arguments: str) -> list[dict[str, Any]]:
        command = ['nsenter', f'--net={self._path}', 'ip', '-json', *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RehearsalError(f'{" ".join(command)}: {result.stderr.strip()}')
        return list(json.loads(result.stdout or '[]'))
