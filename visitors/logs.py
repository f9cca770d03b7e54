"""What the server writes to its log: JSON lines where a program reads them, plain ones on a terminal; no addresses."""

from datetime import datetime, timedelta, timezone
import json
import logging
import sys
from typing import Any

from gunicorn.glogging import Logger

PLAIN = '%(asctime)s %(levelname)s %(name)s: %(message)s'


class JsonFormatter(logging.Formatter):
    """Writes a log record as one JSON object a line: time, level, logger, message, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {'time': moment(record.created), 'level': record.levelname.lower(), 'logger': record.name,
                'message': record.getMessage()}
        if record.exc_info:
            line['traceback'] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class ServerLogger(Logger):
    """Gunicorn's logger, with an access log that tells nothing about who came."""

    def setup(self, cfg: Any) -> None:
        """Send the access log to stdout and all else to stderr, each as JSON unless it is a terminal."""
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
        }))


def moment(timestamp: float) -> str:
    """Return a moment as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec='milliseconds').replace('+00:00', 'Z')
