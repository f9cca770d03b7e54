"""The server's log: JSON for programs, plain lines on a terminal, and never an address."""

import json
import logging
import os
import pty
import re
import subprocess
import sys

import requests

from tests.support.server import bring_up, BROWSER, environment, ROOT
from visitors.logs import JsonFormatter, moment

MINE = '198.51.100.77'


def read_until(terminal: int, text: str) -> str:
    """Return the output on a terminal up to the moment at which a text appears in it."""
    output = ''
    while text not in output:
        output += os.read(terminal, 65536).decode()
    return output


def test_at_a_terminal_the_log_is_plain_and_still_shows_no_address(sqlite_url: str) -> None:
    terminal, server_end = pty.openpty()
    command = [sys.executable, '-m', 'gunicorn', '--config', 'gunicorn.conf.py', 'app:create_app()']
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=server_end, stderr=server_end,
                              env=environment(bring_up(sqlite_url), PORT='0', WORKERS='1', TRUSTED_PROXIES='1'))
    os.close(server_end)
    try:
        start = read_until(terminal, 'Booting worker')
        match = re.search(r'INFO gunicorn.error: serving on (http://[0-9.:]+)', start)
        assert match, start
        headers = {'User-Agent': BROWSER, 'X-Forwarded-For': MINE}
        assert requests.get(f'{match[1]}/?secret=word', headers=headers, timeout=60).status_code == 200
        output = read_until(terminal, ' ms')
    finally:
        server.terminate()
        server.wait(60)
        os.close(terminal)
    assert re.search(r'^GET / 200 [0-9.]+ ms\r?$', output, re.MULTILINE), output
    assert '{' not in start + output
    assert MINE not in start + output
    assert 'word' not in start + output


def test_an_error_is_one_line_of_json_with_where_it_happened() -> None:
    try:
        raise ValueError('a quote " and a\nnew line')
    except ValueError:
        record = logging.LogRecord('visitors.page', logging.ERROR, '', 0, 'it failed: %s', ('why',), sys.exc_info())
    line = JsonFormatter().format(record)
    assert '\n' not in line
    record = json.loads(line)
    assert (record['level'], record['logger'], record['message']) == ('error', 'visitors.page', 'it failed: why')
    assert 'visitors/test_logs.py' in record['traceback'] and 'ValueError: a quote "' in record['traceback']


def test_a_moment_is_written_in_utc_to_the_millisecond() -> None:
    assert moment(0) == '1970-01-01T00:00:00.000Z'
    assert moment(1_767_323_045.6789) == '2026-01-02T03:04:05.678Z'
