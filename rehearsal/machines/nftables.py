"""The packet filter of a network namespace, by the library of nftables.

The tables belong to this process: a program in the namespace neither changes nor flushes them, even as root, and they
end with the process. The system of a machine flushes all rules when it boots. Needs Linux 5.12.
https://wiki.nftables.org/wiki-nftables/index.php/Configuring_tables
"""

import ctypes

from rehearsal.errors import RehearsalError
from rehearsal.machines.namespace import Namespace

LIBRARY = 'libnftables.so.1'


class Filter:
    """The packet filter that this process has in a network namespace."""

    def __init__(self, namespace: Namespace) -> None:
        """Connect to the namespace; the connection keeps it, and stays in it."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise RehearsalError(f'{error}: install nftables') from error
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(namespace.inside(lambda: self._library.nft_ctx_new(0)))
        if not self._context:
            raise RehearsalError('libnftables cannot connect to a network namespace')
        self._library.nft_ctx_buffer_error(self._context)

    def load(self, text: str) -> None:
        """Load a ruleset as one transaction."""
        if self._library.nft_run_cmd_from_buffer(self._context, text.encode()):
            message = self._library.nft_ctx_get_error_buffer(self._context).decode()
            raise RehearsalError(f'nft refuses a packet filter: {message.strip()}')

    def close(self) -> None:
        """Release the namespace, and remove the tables."""
        self._library.nft_ctx_free(self._context)
