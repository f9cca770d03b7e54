"""The packet filters of machines, which follow the rules and members of security groups.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-security-groups.html
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
import logging
from threading import Event, Lock, Thread
from typing import Any

from rehearsal.machines.namespace import Namespace
from rehearsal.machines.nftables import Filter

logger = logging.getLogger(__name__)

SECONDS = 0.5


class Protection:
    """The packet filter of one machine, and a function that returns its present text."""

    def __init__(self, packet_filter: Filter, make: Callable[[], str]) -> None:
        """Load nothing yet."""
        self.filter = packet_filter
        self._make = make
        self._loaded = ''

    def renew(self, lock: AbstractContextManager[Any]) -> None:
        """Load the filter if its text changed."""
        with lock:
            text = self._make()
        if text != self._loaded:
            self.filter.load(text)
            self._loaded = text


class Firewall:
    """The packet filters of all machines, and the thread that renews them."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        """Begin to renew; the lock is that of moto's records."""
        self._lock = lock
        self._protections: list[Protection] = []
        self._change = Lock()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name='firewall', daemon=True)
        self._thread.start()

    def protect(self, namespace: Namespace, make: Callable[[], str]) -> Callable[[], None]:
        """Load a filter into a namespace, renew it from now on, and return a function that removes it."""
        protection = Protection(Filter(namespace), make)
        try:
            protection.renew(self._lock)
        except BaseException:
            protection.filter.close()
            raise
        with self._change:
            self._protections.append(protection)
        return lambda: self._remove(protection)

    def renew(self) -> None:
        """Load all filters whose text changed."""
        with self._change:
            for protection in self._protections:
                try:
                    protection.renew(self._lock)
                except Exception:
                    logger.exception('a packet filter stays as it is')

    def close(self) -> None:
        """Stop to renew; the filters stay until their machines are removed, or this process ends."""
        self._ended.set()
        self._thread.join()

    def _remove(self, protection: Protection) -> None:
        with self._change:
            self._protections.remove(protection)
            protection.filter.close()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            self.renew()
