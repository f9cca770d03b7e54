"""How gunicorn serves the application: behind a load balancer, as a container's first process, or by make run."""

import os
from pathlib import Path
import sys

from gunicorn.arbiter import Arbiter

from visitors.key import visitor_key
from visitors.listening import obstacle
from visitors.logs import ServerLogger
from visitors.settings import exit_if_bad, load_or_exit

settings = load_or_exit()
# A worker that ended for a bad key would be replaced again and again.
exit_if_bad(lambda: visitor_key(settings))

bind = f'[{settings.host}]:{settings.port}' if ':' in settings.host else f'{settings.host}:{settings.port}'
workers = settings.workers
# A view waits for the commit several times longer than it computes; threads for that cost little: docs/performance.md.
threads = settings.threads
# Idle connections stay open, which a load balancer wants, and clients that are slow or silent hold no thread.
worker_class = 'visitors.worker.BufferingWorker'
# In each process. With the database's connections they stay below 1,024 open files, a usual limit.
worker_connections = 512
# Longer than the balancer's idle time-out (60 s), or it would send requests into connections that are just closing.
keepalive = 75
# The slowest answer takes 3 s. A worker silent for `timeout` is replaced; one that is told to stop has
# `graceful_timeout` to finish its answers, which lies within the 10 s that Docker gives a container by default.
timeout = 30
graceful_timeout = 8
# A request that needs more is none of ours.
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190
# The path in front of the application is URL_PREFIX: no header of a request sets it, nor does gunicorn's own variable.
forwarder_headers = ''
os.environ.pop('SCRIPT_NAME', None)
# The heartbeat file belongs into memory: a slow disk must not look like a hung worker.
worker_tmp_dir = '/dev/shm' if Path('/dev/shm').is_dir() else None
# Nobody manages a container by a socket in it, and a read-only file system has no place for one.
control_socket_disable = True
logger_class = ServerLogger
accesslog = '-'


def on_starting(server: Arbiter) -> None:
    """End the start with one line where the port cannot be had; gunicorn would try for five seconds."""
    inherits_sockets = {'GUNICORN_FD', 'LISTEN_FDS'} & set(os.environ)
    problem = None if inherits_sockets else obstacle(settings.host, settings.port)
    if problem:
        server.log.error('%s', problem)
        sys.exit(1)


def when_ready(server: Arbiter) -> None:
    """Tell where the application can be found; with PORT=0 nobody else knows."""
    for listener in server.LISTENERS:
        server.log.info('serving on %s', listener)
