"""The server's log: JSON lines for programs, plain lines on a terminal; no addresses of clients."""

from datetime import datetime, timedelta, timezone
import json
import logging
import re
import sys
from typing import Any

from flask import Flask
from gunicorn.glogging import Logger
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, NoMoreData, ParseException
from werkzeug.serving import BaseWSGIServer

# Set in a request's environment, it marks the log line of a 503 that is no outage, for the alarm of errors.
REFUSED_IN_ADVANCE = 'visitors.refused_in_advance'
PLAIN = '%(asctime)s %(levelname)s %(name)s: %(message)s'
# How gunicorn's workers report an unreadable request: with the client's address, and the part that is wrong.
OF_A_BAD_REQUEST = 'Invalid request from '
# The beginning of a line of werkzeug's development server about a request; the request line has colours around it.
OF_A_CLIENT = re.compile(r'\S+ - - \[[^]]*] ')
COLOUR = r'(?:\x1b\[[0-9;]*m)*'
REQUEST_LINE = re.compile(rf'{COLOUR}([A-Z]+ [^ ?]*)(?:\?[^ ]*)? HTTP/[0-9.]+{COLOUR}')


class JsonFormatter(logging.Formatter):
    """The formatter of JSON lines: time, level, logger, message, and the traceback if a record has one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {'time': moment(record.created), 'level': record.levelname.lower(), 'logger': record.name,
                'message': record.getMessage()}
        if record.exc_info:
            line['traceback'] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class ServerLogger(Logger):
    """Gunicorn's logger without clients: of a request, it writes nothing but method and path."""

    def setup(self, cfg: Any) -> None:
        """Send the access log to stdout and all other lines to stderr, each as JSON unless it is a terminal."""
        super().setup(cfg)
        self._plain_access = sys.stdout.isatty()
        formatter = logging.Formatter(PLAIN) if sys.stderr.isatty() else JsonFormatter()
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)
        for handler in self.access_log.handlers:
            handler.setFormatter(logging.Formatter('%(message)s'))
        package = logging.getLogger('visitors')
        package.handlers, package.propagate = list(self.error_log.handlers), False
        package.setLevel(logging.INFO)

    def debug(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Log a message of gunicorn without its client."""
        super().debug(*_without_request(msg, args), **kwargs)

    def warning(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Log a message of gunicorn without its client."""
        super().warning(*_without_request(msg, args), **kwargs)

    def exception(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Log an error with its traceback; for an unreadable request, only the kind of error."""
        if _unreadable(msg):
            self.warning(msg)
        else:
            super().exception(*_without_request(msg, args), **kwargs)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Write one line for an answered request: no address, no query, no agent."""
        status = int(str(resp.status).split(maxsplit=1)[0])
        seconds = request_time.total_seconds()
        if self._plain_access:
            self.access_log.info('%s %s %d %.1f ms', req.method, req.path, status, seconds * 1000)
            return

        now = datetime.now(timezone.utc).timestamp()
        self.access_log.info(json.dumps({
            'time': moment(now), 'method': req.method, 'path': req.path, 'status': status,
            'bytes': getattr(resp, 'sent', None), 'milliseconds': round(seconds * 1000, 2),
            **({'in_advance': True} if REFUSED_IN_ADVANCE in environ else {}),
        }))


class WithoutClient(logging.Filter):
    """The filter that removes address and query from the development server's log lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the line of a request, and drop all other lines about a client."""
        text = str(record.msg)
        address = OF_A_CLIENT.match(text)
        if not address:
            return True
        if text[address.end():] != '"%s" %s %s' or not isinstance(record.args, tuple):
            return False  # about an unreadable request, for which a line of our own follows

        line, status, _ = record.args
        request = REQUEST_LINE.fullmatch(str(line))
        record.msg, record.args = '%s %s', (request[1] if request else 'refused a request:', status)
        return True


WITHOUT_CLIENT = WithoutClient()


def init_app(app: Flask) -> None:
    """Keep clients out of the log of the development server, in case it serves an application."""
    logging.getLogger('werkzeug').addFilter(WITHOUT_CLIENT)
    BaseWSGIServer.handle_error = _log_kind_of_error  # type: ignore[assignment,method-assign]


def _log_kind_of_error(_server: BaseWSGIServer, _request: Any, _client_address: Any) -> None:
    # Replaces the standard library's, which prints the client's address, and the request in the error's message.
    error = sys.exc_info()[0]
    logging.getLogger('werkzeug').error('refused a request: %s', error.__name__ if error else 'unreadable')


def _without_request(message: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Return a message of gunicorn and its arguments without address, query and headers."""
    if _unreadable(message):
        error = sys.exc_info()[0]
        return 'refused a request: %s', error.__name__ if error else 'unreadable'
    return message, *(argument.partition('?')[0] if isinstance(argument, str) else argument for argument in arguments)


def _unreadable(message: str) -> bool:
    """Return whether a message of gunicorn is about an unreadable request, and so quotes it."""
    error = sys.exc_info()[1]
    if isinstance(error, (InvalidResponseHeader, InvalidResponseHeaderName)):
        return False  # a defect of the application
    return str(message).startswith(OF_A_BAD_REQUEST) or isinstance(error, (ParseException, NoMoreData))


def moment(timestamp: float) -> str:
    """Return a moment as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec='milliseconds').replace('+00:00', 'Z')
