"""The audit of pinned packages, against a database of vulnerabilities that answers, is silent, or is unreachable."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import subprocess
import sys
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.postgresql import free_port
from tests.support.server import ROOT

HASH = f'--hash=sha256:{"0" * 64}'
PINS = f'flask==3.1.3 {HASH}\nwerkzeug==3.1.0 {HASH}\nother==1.0 ; python_version < "3" {HASH}\n'
VULNERABILITY = {'id': 'PYSEC-2026-1', 'summary': 'a hole', 'details': 'a hole', 'aliases': [], 'affected': [{
    'package': {'name': 'werkzeug', 'ecosystem': 'PyPI'},
    'ranges': [{'type': 'ECOSYSTEM', 'events': [{'introduced': '0'}, {'fixed': '3.1.9'}]}]}]}
Answer = Callable[[str], dict[str, Any] | None]


class Database:
    def __init__(self, answer: Answer) -> None:
        """Answer questions as OSV does: an object for a package; silence where the answer is None."""
        self.asked: list[str] = []
        self.is_over = is_over = Event()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Answer a question."""
                question = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                name = str(question['package']['name'])
                asked.append(name)
                said = answer(name)
                if said is None:
                    is_over.wait(60)
                    return
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}/v1/query'
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        """End the server and its waiting requests."""
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def database() -> Iterator[Callable[[Answer], Database]]:
    """Give a function that starts a database with chosen answers."""
    started: list[Database] = []

    def start(answer: Answer) -> Database:
        started.append(Database(answer))
        return started[-1]

    yield start
    for each in started:
        each.end()


def audit(folder: Path, url: str, *options: str, pins: str = PINS) -> 'subprocess.CompletedProcess[str]':
    (folder / 'requirements.txt').write_text(pins, encoding='utf-8')
    return subprocess.run([sys.executable, '-m', 'tests.tools.audit', f'--database={url}', *options,
                           str(folder / 'requirements.txt')], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          check=False)


def test_a_known_vulnerability_fails_with_the_version_that_mends_it(
        database: Callable[[Answer], Database], tmp_path: Path) -> None:
    asked = database(lambda name: {'vulns': [VULNERABILITY]} if name == 'werkzeug' else {})
    done = audit(tmp_path, asked.url)
    assert done.returncode == 1, done
    assert done.stdout.splitlines() == ['werkzeug==3.1.0: PYSEC-2026-1, mended by 3.1.9',
                                        '2 packages audited, 1 known vulnerabilities']
    assert set(asked.asked) == {'pip', 'flask', 'werkzeug'}, 'the probe, and what this Python would install'


def test_packages_without_a_known_vulnerability_pass(database: Callable[[Answer], Database], tmp_path: Path) -> None:
    done = audit(tmp_path, database(lambda name: {}).url)
    assert (done.returncode, done.stdout) == (0, '2 packages audited, 0 known vulnerabilities\n'), done


def test_a_database_that_is_out_of_reach_is_named_and_stops_nothing(tmp_path: Path) -> None:
    url = f'http://127.0.0.1:{free_port()}/v1/query'
    done = audit(tmp_path, url)
    assert done.returncode == 0, done
    assert done.stderr.startswith(f'NOT AUDITED: the database of vulnerabilities cannot be asked ({url}: ')


def test_a_database_that_falls_silent_is_waited_for_no_longer_than_said(
        database: Callable[[Answer], Database], tmp_path: Path) -> None:
    done = audit(tmp_path, database(lambda name: {} if name == 'pip' else None).url, '--seconds=3')
    assert done.returncode == 0, done
    assert 'NOT AUDITED' in done.stderr and 'no verdict within 3 s' in done.stderr


def test_a_database_that_never_answers_holds_nothing_up(
        database: Callable[[Answer], Database], tmp_path: Path) -> None:
    done = audit(tmp_path, database(lambda name: None).url)
    assert done.returncode == 0, done
    assert 'no answer within 4 s' in done.stderr or 'timed out' in done.stderr


def test_a_file_that_cannot_be_audited_fails(database: Callable[[Answer], Database], tmp_path: Path) -> None:
    done = audit(tmp_path, database(lambda name: {}).url, pins='flask>=3\n')
    assert done.returncode == 1, done
    assert 'pip-audit: ' in done.stderr


def test_make_check_audits_every_file_of_pinned_packages() -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert '-m tests.tools.audit $(LOCKS)' in makefile
    tracked = subprocess.run(['git', 'ls-files', '*requirements*.txt'], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout.split()
    (named,) = [line.partition(':=')[2].split() for line in makefile.splitlines() if line.startswith('LOCKS :=')]
    assert set(named) == set(tracked)
