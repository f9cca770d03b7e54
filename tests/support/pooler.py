"""A real pgbouncer in front of a test's server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import socket
import subprocess
import tempfile

import pytest
from sqlalchemy import make_url

from tests.support.postgresql import as_its_user, free_port, give_to_its_user
from tests.support.waiting import eventually
from tests.tools.packages import program

CONFIGURATION = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
auth_file = {folder}/users
pool_mode = transaction
ignore_startup_parameters = {ignored}
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextmanager
def pooler(url: str, ignored: str = 'extra_float_digits') -> Iterator[str]:
    """Give the URL of a database through a pooler in transaction mode, which drops some settings of a connection."""
    binary = program('pgbouncer')
    if not binary:
        pytest.fail('no pgbouncer: apt-get install pgbouncer, or let `make test` do it', pytrace=False)
    direct, port = make_url(url), free_port()
    with tempfile.TemporaryDirectory(prefix='visitors-pooler-') as name:
        folder = Path(name)
        # With auth_type any, each client signs in as the user in the line of the database.
        text = CONFIGURATION.format(host=direct.host, port=f'{direct.port} user={direct.username}', own_port=port,
                                    folder=folder, ignored=ignored)
        (folder / 'ini').write_text(text, encoding='ascii')
        (folder / 'users').write_text('', encoding='ascii')
        give_to_its_user(folder, *folder.iterdir())
        process = subprocess.Popen(as_its_user(str(binary), str(folder / 'ini')),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, folder)
            yield direct.set(host='127.0.0.1', port=port).render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(port: int, folder: Path) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', port)) == 0

    eventually(listens, lambda: f'pgbouncer listens: {(folder / "log").read_text(encoding="utf-8")}')
