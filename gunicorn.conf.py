"""Gunicorn's settings: behind a load balancer, as a container's first process, or by `make run`."""

import os
from pathlib import Path
import sys

from gunicorn.arbiter import Arbiter

from visitors.key import visitor_key
from visitors.listening import obstacle
from visitors.logs import ServerLogger
from visitors.settings import exit_if_bad, load_or_exit

settings = load_or_exit()
# Here, because gunicorn would replace a worker that ends for a bad key again and again.
exit_if_bad(lambda: visitor_key(settings))

bind = f'[{settings.host}]:{settings.port}' if ':' in settings.host else f'{settings.host}:{settings.port}'
workers = settings.workers
# A view waits for the commit several times longer than it computes, and a waiting thread costs little:
# docs/performance.md.
threads = settings.threads
# It keeps idle connections open, as a load balancer needs, and gives no thread to slow or silent clients.
worker_class = 'visitors.worker.BufferingWorker'
# In each process. Together with the database's connections that is fewer than 1,024 open files, a usual limit.
worker_connections = 512
# Longer than the balancer's idle time-out (60 s); otherwise it would send requests into closing connections.
keepalive = 75
# The slowest answer takes 3 s. A worker silent for `timeout` is replaced. A stopping worker has `graceful_timeout` to
# finish its answers, less than the 10 s that Docker gives a container by default.
timeout = 30
graceful_timeout = 8
# The application needs no larger request.
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190
# Only URL_PREFIX sets the path in front of the application: no header of a request, and not gunicorn's own variable.
forwarder_headers = ''
os.environ.pop('SCRIPT_NAME', None)
# The heartbeat file is in memory, because with a slow disk a worker would look hung.
worker_tmp_dir = '/dev/shm' if Path('/dev/shm').is_dir() else None
# A container is not managed by a socket in it, and a read-only file system has no place for one.
control_socket_disable = True
logger_class = ServerLogger
accesslog = '-'


def on_starting(server: Arbiter) -> None:
    """End the start with one line if the port cannot be used; gunicorn would retry for five seconds."""
    inherits_sockets = {'GUNICORN_FD', 'LISTEN_FDS'} & set(os.environ)
    problem = None if inherits_sockets else obstacle(settings.host, settings.port)
    if problem:
        server.log.error('%s', problem)
        sys.exit(1)


def when_ready(server: Arbiter) -> None:
    """Log the addresses of the application; with PORT=0 there is no other way to learn the port."""
    for listener in server.LISTENERS:
        server.log.info('serving on %s', listener)
