"""Listening sockets, and the threads that answer on them."""

from collections.abc import Callable
from dataclasses import dataclass
import socket
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

Application = Callable[..., Any]


class QuietHandler(MotoRequestHandler):
    """A handler of requests that logs none of them."""

    def log_request(self, code: int | str = '-', size: int | str = '-') -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Listener:
    """A listening socket, its server and the server's thread."""

    server: BaseWSGIServer
    thread: Thread

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve(application: Application, listening: socket.socket) -> Listener:
    """Answer the requests at a listening socket by an application, in a thread."""
    address, port = listening.getsockname()[:2]
    with listening:  # the server has a descriptor of its own
        server = make_server(address, port, application, threaded=True, request_handler=QuietHandler,
                             fd=listening.fileno())
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return Listener(server, thread)
