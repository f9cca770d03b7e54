"""An application with the answers that a test chooses, on a port of its own."""

from http.server import BaseHTTPRequestHandler, HTTPServer
import json
import threading

from tests.support.machine_folder import version


class Application:
    """A server in the place of the application; a test changes its answers."""

    def __init__(self) -> None:
        """Answer as a ready application does."""
        self.answers: dict[str, tuple[int, dict[str, object]]] = {
            '/livez': (200, {'alive': True}), '/readyz': (200, {'ready': True}),
            '/version': (200, {'version': version()})}
        self.agents: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.agents.add(self.headers['User-Agent'])
                status, answer = outer.answers[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name is the library's)
                pass

        self._server = HTTPServer(('127.0.0.1', 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
