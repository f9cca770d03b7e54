"""The doors of a machine: addresses of its own namespace, behind which this process answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import socket
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from rehearsal.namespace import Namespace

Application = Callable[..., Any]
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
METADATA = '169.254.169.254'
# No addresses of AWS's: the first stands for a VPC endpoint of every service, the second for the way to Debian.
API = '169.254.169.250'
ARCHIVE = '169.254.169.251'


class QuietHandler(MotoRequestHandler):
    """Handles requests without writing each of them down."""

    def log_request(self, code: int | str = '-', size: int | str = '-') -> None:
        """Write down nothing."""


@dataclass(frozen=True)
class Door:
    """A socket, and the server that answers on it."""

    server: BaseWSGIServer
    thread: Thread

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(application: Application, listener: socket.socket) -> Door:
    """Return a door: what comes in at a listening socket is answered by an application."""
    address, port = listener.getsockname()[:2]
    with listener:  # the server has a descriptor of its own
        server = make_server(address, port, application, threaded=True, request_handler=QuietHandler,
                             fd=listener.fileno())
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return Door(server, thread)


def open_doors(namespace: Namespace, applications: Mapping[str, Application]) -> list[Door]:
    """Return doors at addresses that are shown to be the namespace's own first."""
    for address in applications:
        namespace.own(address)
        namespace.check_is_own(address)
    return [answer(application, namespace.listen(address, 80)) for address, application in applications.items()]
