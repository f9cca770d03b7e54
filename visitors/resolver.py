"""The look-up of a database server's name within a time limit; libpq and the system's resolver have no limit."""

from ipaddress import ip_address
import socket
import threading
import time
from typing import Any

# The limit of a look-up from its beginning, for all threads that wait for its result.
LOOKUP_SECONDS = 1.0


class LookupFailed(Exception):
    """A name without an address, or without one within the time limit."""


class _Lookup:
    """A look-up in a thread of its own: the system's resolver cannot be interrupted."""

    def __init__(self, name: str) -> None:
        """Begin to look up a name."""
        self.name = name
        self._until = time.monotonic() + LOOKUP_SECONDS
        self._ended = threading.Event()
        self._addresses: list[str] = []
        self._error = ''
        threading.Thread(target=self._run, name=f'look-up of {name}', daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the resolver answered, however late."""
        return self._ended.is_set()

    def result(self, deadline: float | None) -> list[str]:
        """Return the addresses; raise LookupFailed if they are missing, at the latest when the time is over."""
        until = self._until if deadline is None else min(self._until, deadline)
        if not self._ended.wait(max(0.0, until - time.monotonic())):
            raise LookupFailed(f'the resolver did not answer in time for the host {self.name}')
        if self._error:
            raise LookupFailed(f'the host {self.name} has no address: {self._error}')
        return self._addresses

    def _run(self) -> None:
        try:
            entries = socket.getaddrinfo(self.name, None, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in entries))
        except (OSError, UnicodeError) as error:
            self._error = getattr(error, 'strerror', None) or str(error)
        self._ended.set()


class Resolver:
    """The look-ups of a process: one at a time for each name, shared by all threads that need it."""

    def __init__(self) -> None:
        """Begin without look-ups."""
        self._lookups: dict[str, _Lookup] = {}
        self._lock = threading.Lock()

    def resolve(self, parameters: dict[str, Any], deadline: float | None) -> None:
        """Add addresses to the host names of a connection's parameters; raise LookupFailed.

        The names stay, because a server's certificate is checked against them.
        """
        if not parameters.get('host') or parameters.get('hostaddr'):
            return

        names, ports = _list(parameters['host']), _list(parameters.get('port', ''))
        hosts: list[tuple[str, str, str]] = []
        for number, name in enumerate(names):
            port = ports[number] if len(ports) == len(names) else ports[0]
            hosts += [(name, address, port) for address in self._addresses(name, deadline)]
        parameters['host'], parameters['hostaddr'], parameters['port'] = map(','.join, zip(*hosts))

    def _addresses(self, name: str, deadline: float | None) -> list[str]:
        if _needs_no_lookup(name):
            return ['' if _is_socket(name) else name]
        return self._lookup(name).result(deadline)

    def _lookup(self, name: str) -> _Lookup:
        with self._lock:
            lookup = self._lookups.get(name)
            if not lookup or lookup.has_ended:
                lookup = self._lookups[name] = _Lookup(name)
            return lookup


def _list(text: Any) -> list[str]:
    return str(text).split(',')


def _is_socket(name: str) -> bool:
    """Return whether libpq takes a host for the folder of a socket."""
    return not name or name.startswith(('/', '@'))


def _needs_no_lookup(name: str) -> bool:
    if _is_socket(name):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
