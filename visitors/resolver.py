"""Names of database servers looked up within a time limit, which neither libpq nor the system's resolver has."""

from ipaddress import ip_address
import socket
import threading
import time
from typing import Any

# A look-up has this long from its beginning, for all threads that wait for its result.
LOOKUP_SECONDS = 1.0


class LookupFailed(Exception):
    """A name has no address, or none within the time limit."""


class _Lookup:
    """A look-up in a thread of its own: the system's resolver cannot be interrupted."""

    def __init__(self, name: str) -> None:
        """Begin to look a name up."""
        self.name = name
        self._until = time.monotonic() + LOOKUP_SECONDS
        self._ended = threading.Event()
        self._addresses: list[str] = []
        self._error = ''
        threading.Thread(target=self._run, name=f'look-up of {name}', daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the resolver has answered, however late."""
        return self._ended.is_set()

    def result(self, deadline: float | None) -> list[str]:
        """Return the addresses; raise LookupFailed without them, at the latest when the time is over."""
        until = self._until if deadline is None else min(self._until, deadline)
        if not self._ended.wait(max(0.0, until - time.monotonic())):
            raise LookupFailed(f'the resolver did not answer in time for the host {self.name}')
        if self._error:
            raise LookupFailed(f'the host {self.name} has no address: {self._error}')
        return self._addresses

    def _run(self) -> None:
        try:
            found = socket.getaddrinfo(self.name, None, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except (OSError, UnicodeError) as error:
            self._error = getattr(error, 'strerror', None) or str(error)
        self._ended.set()


class Resolver:
    """The look-ups of a process: one at a time for each name, which all who need it share."""

    def __init__(self) -> None:
        """Begin without any look-up."""
        self._lookups: dict[str, _Lookup] = {}
        self._lock = threading.Lock()

    def resolve(self, parameters: dict[str, Any], deadline: float | None) -> None:
        """Put addresses beside the host names of a connection's parameters; raise LookupFailed.

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
            known = self._lookups.get(name)
            if not known or known.has_ended:
                known = self._lookups[name] = _Lookup(name)
            return known


def _list(text: Any) -> list[str]:
    return str(text).split(',')


def _is_socket(name: str) -> bool:
    """Return whether libpq takes a host for a socket's folder instead of a name."""
    return not name or name.startswith(('/', '@'))


def _needs_no_lookup(name: str) -> bool:
    if _is_socket(name):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
