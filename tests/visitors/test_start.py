"""Starts of the application by make, Python and flask: their output, and their end by Ctrl-C."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import re
import shutil
import signal
import socket
import subprocess
import sys
from types import TracebackType

import pytest
import requests

from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.engine import unique
from tests.support.containers.fixtures import cloned_into, Image
from tests.support.postgresql import free_port
from tests.support.server import BROWSER, KEY, ROOT
from tests.support.waiting import eventually, PATIENCE

START_SECONDS = 60
MAKE = ('make', 'run')
PYTHON = (sys.executable, 'app.py')
FLASK = (sys.executable, '-m', 'flask', '--app', 'app', 'run', '--port', '0')
TWO_APPLICATIONS = """
import re, sys
from app import create_app
from visitors.settings import Settings

for name in ('Ada', 'Grace'):
    url = f'sqlite:///{sys.argv[1]}/{name}.sqlite3'
    app = create_app(Settings.from_environ({'DATABASE_URL': url, 'USER_NAME': name}))
    print(*re.findall('Ada|Grace', app.test_client().get('/').text))
"""
AT = re.compile(r'(?:serving|Running) on (http://[0-9.:]+)')


@pytest.fixture(scope='module')
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a clone of the working copy that uses the packages which are installed here."""
    clone = cloned_into(tmp_path_factory.mktemp('start') / 'clone')
    (clone / '.venv').symlink_to(ROOT / '.venv')
    return clone


@pytest.fixture
def clone(pristine: Path, tmp_path: Path) -> Path:
    """Give a clone that a test may write to."""
    return Path(shutil.copytree(pristine, tmp_path / 'clone', symlinks=True))


def heed_interrupts() -> None:
    """Be as a terminal's shell leaves it: one that works in the background lets its programs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Started:
    """The application, started by a command in a folder."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path, settings: Mapping[str, str]) -> None:
        """Start it, and wait until it prints its address."""
        kept = {name: os.environ[name] for name in ('PATH', 'HOME') if name in os.environ}
        self._log = log
        with log.open('wb') as output:
            self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=output, start_new_session=True, preexec_fn=heed_interrupts,
                                             env={**kept, 'PYTHONUNBUFFERED': '1', **settings})
        self.address = self._wait_for_address()

    def __enter__(self) -> 'Started':
        """Return the running application."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End the processes that a failed test leaves running."""
        self._kill()

    @property
    def output(self) -> str:
        """The output so far."""
        return self._log.read_text(encoding='utf-8')

    def get(self, path: str = '/') -> requests.Response:
        """Return the answer to a browser's request."""
        return requests.get(self.address + path, headers={'User-Agent': BROWSER}, timeout=60)

    def interrupt(self) -> int:
        """Press Ctrl-C, which a terminal sends to all processes of the command, and return the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(60)
        assert not self._lives(), 'a process is left'
        return code

    def _wait_for_address(self) -> str:
        def address() -> str:
            has_ended = self._process.poll() is not None
            match = AT.search(self.output)
            if has_ended and not match:
                raise RuntimeError(f'it did not start: {self.output}')
            return match[1] if match else ''

        try:
            return eventually(address, lambda: f'it says where it serves: {self.output}')
        except BaseException:
            self._kill()
            raise

    def _lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _kill(self) -> None:
        if self._lives():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.mark.container
def test_python_and_make_are_all_that_make_run_needs(engine: Engine, image: Image, shared_clone: Path) -> None:
    name, port = unique('bare'), free_port()
    whose = [f'--user={os.getuid()}:{os.getgid()}', '--env=HOME=/tmp', f'--volume={shared_clone}:/clone']
    ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/readyz', timeout=9).read().decode())"

    def is_ready() -> bool:
        try:
            return '"ready":true' in engine.docker('exec', name, 'python', '-c', ask)
        except CommandFailed:
            return False

    shutil.copy2(shutil.which('make') or '', shared_clone)
    engine.docker('run', '--detach', f'--name={name}', *engine.build_options, *whose, '--workdir=/clone', image.base,
                  './make', 'run', f'PORT={port}')
    try:
        eventually(is_ready, 'it serves', 5 * PATIENCE)
        output = engine.logs(name)
        assert 'git is not installed' in output and 'so the version has no build number' in output
        assert f'serving on http://127.0.0.1:{port}' in output
    finally:
        print(engine.logs(name))
        engine.docker('rm', '--force', name)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the name of a file for the output of a command."""
    return tmp_path / 'log'


def visits(started: Started) -> int:
    match = re.search(r'You have visited this page (\d+) time', started.get().text)
    assert match
    return int(match[1])


def test_make_run_serves_on_a_file_and_a_key_of_its_own_until_ctrl_c(clone: Path, log: Path) -> None:
    for expected in (1, 2):
        with Started(MAKE, clone, log, {'PORT': '0'}) as started:
            assert visits(started) == expected, 'the second start counts anew'
            number = (clone / 'version.txt').read_text(encoding='utf-8').strip()
            assert started.get('/version').json()['version'] == f'{number}+build.1'
            # A shell shows 130 for Ctrl-C; make itself ends by the signal.
            assert started.interrupt() in (0, -signal.SIGINT)
            assert 'Traceback' not in started.output
            assert '***' not in started.output
    assert {path.name for path in (clone / 'data').iterdir()} >= {'visitors.sqlite3', 'visitor.key'}
    assert (clone / 'data' / 'visitor.key').stat().st_mode & 0o077 == 0, 'others can read the key'


@pytest.mark.parametrize('given', ['as arguments of make', 'in the environment'])
def test_make_run_takes_settings(clone: Path, log: Path, postgresql_url: str, given: str) -> None:
    settings = {'PORT': '0', 'DATABASE_URL': postgresql_url, 'VISITOR_KEY': KEY, 'USER_NAME': 'Ada'}
    as_arguments = given == 'as arguments of make'
    arguments = [f'{name}={value}' for name, value in settings.items()] if as_arguments else []
    with Started([*MAKE, *arguments], clone, log, {} if as_arguments else settings) as started:
        assert 'A page by Ada<' in started.get().text
        assert started.get('/readyz').json()['ready'] is True
    assert not (clone / 'data').exists(), 'the embedded database was used'


@pytest.mark.parametrize('command', [MAKE, PYTHON, FLASK], ids=['make', 'python', 'flask'])
def test_settings_of_a_file_beside_the_code_are_read(clone: Path, log: Path, command: tuple[str, ...]) -> None:
    (clone / '.env').write_text('PORT=0\nUSER_NAME=Grace\n', encoding='utf-8')
    with Started(command, clone, log, {}) as started:
        assert 'A page by Grace<' in started.get().text
        assert visits(started) == 2


@pytest.mark.parametrize('command', [('{clone}/app.py',), ('-m', 'flask', '--app', '{clone}/app', 'run', '-p', '0')],
                         ids=['python', 'flask'])
def test_started_from_another_folder_it_finds_what_belongs_to_it(clone: Path, log: Path, tmp_path: Path,
                                                                 command: tuple[str, ...]) -> None:
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'version.txt').write_text('9.9.9\n', encoding='utf-8')
    (clone / 'version.txt').write_text('7.8.9\n', encoding='utf-8')
    (clone / '.env').write_text('PORT=0\nUSER_NAME=Grace\n', encoding='utf-8')
    arguments = [argument.format(clone=clone) for argument in command]
    with Started([sys.executable, *arguments], tmp_path / 'elsewhere', log, {}) as started:
        assert started.get('/version').json()['version'] == '7.8.9'
        assert 'A page by Grace<' in started.get().text
    assert {path.name for path in (tmp_path / 'elsewhere').iterdir()} == {'version.txt'}
    assert (clone / 'data' / 'visitors.sqlite3').exists()


@pytest.mark.parametrize('command', [MAKE, PYTHON, FLASK], ids=['make', 'python', 'flask'])
def test_a_bad_setting_ends_the_start_with_one_line(clone: Path, command: tuple[str, ...]) -> None:
    result = subprocess.run(command, cwd=clone, env={'PATH': os.environ['PATH'], 'TRUSTED_PROXIES': 'many'},
                            capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert result.returncode
    assert 'bad setting: TRUSTED_PROXIES=many: use a whole number from 0 to 10\n' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(('command', 'host'), [(MAKE, '127.0.0.1'), (MAKE, '::1'), (PYTHON, '0.0.0.0'),
                                               (PYTHON, 'localhost')], ids=['make', 'IPv6', 'python', 'a name'])
def test_a_taken_port_ends_the_start_at_once_and_says_who_has_it(clone: Path, command: tuple[str, ...],
                                                                 host: str) -> None:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.create_server(('127.0.0.1' if host == 'localhost' else host, 0), family=family) as other:
        port = other.getsockname()[1]
        result = subprocess.run(command, cwd=clone, env={'PATH': os.environ['PATH'], 'HOST': host, 'PORT': str(port)},
                                capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert result.returncode
    name = Path('/proc/self/comm').read_text(encoding='utf-8').strip()
    ports = re.findall(rf'port {port} of {re.escape(host)} is taken by {re.escape(name)} \(process {os.getpid()}\); '
                       r'end it or use another port: make run PORT=([0-9]+)', result.stderr)
    assert len(ports) == 1, result.stderr
    assert int(ports[0]) > port
    assert 'Traceback' not in result.stderr and 'Connection in use' not in result.stderr


@pytest.mark.parametrize('command', [MAKE, PYTHON], ids=['make', 'python'])
def test_an_address_of_another_machine_ends_the_start_with_one_line(clone: Path, command: tuple[str, ...]) -> None:
    result = subprocess.run(command, cwd=clone, env={'PATH': os.environ['PATH'], 'HOST': '192.0.2.1', 'PORT': '0'},
                            capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert result.returncode
    assert result.stderr.count('HOST=192.0.2.1 is no address of this machine; use 127.0.0.1') == 1
    assert 'Traceback' not in result.stderr and 'failed' not in result.stderr


@pytest.mark.parametrize('command', [('schema', 'ready'), ('db', 'current'), ('check-counts',)], ids=' '.join)
def test_a_command_by_hand_works_from_any_folder(clone: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / 'elsewhere').mkdir()
    for arguments in (('schema', 'ready'), command):
        result = subprocess.run([clone / 'bin' / 'flask', *arguments], cwd=tmp_path / 'elsewhere', text=True,
                                env={'PATH': os.environ['PATH']}, capture_output=True, timeout=START_SECONDS,
                                check=False)
        assert result.returncode == 0, result.stderr
    assert (clone / 'data' / 'visitors.sqlite3').exists()
    assert list((tmp_path / 'elsewhere').iterdir()) == []


def test_a_command_by_hand_ends_with_one_line_for_a_file_that_is_not_utf_8(clone: Path) -> None:
    (clone / '.env').write_bytes('USER_NAME=Jos\u00e9\n'.encode('latin-1'))
    result = subprocess.run([clone / 'bin' / 'flask', 'check-counts'], env={'PATH': os.environ['PATH']},
                            capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (result.returncode, result.stderr) == (
        1, f'bad setting: {clone / ".env"} is not UTF-8 (byte 13); save it in that encoding\n')


def test_a_command_by_hand_says_how_to_install_what_is_missing(clone: Path) -> None:
    (clone / '.venv').unlink()
    result = subprocess.run([clone / 'bin' / 'flask', 'check-counts'], capture_output=True, text=True,
                            timeout=START_SECONDS, check=False)
    assert (result.returncode, result.stderr.count('\n')) == (1, 1), result.stderr
    assert 'install the application with `make .venv/bin/.installed`' in result.stderr


def test_importing_it_reads_no_setting_and_every_application_has_its_own(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, '-c', TWO_APPLICATIONS, str(tmp_path)], cwd=ROOT, capture_output=True,
                            text=True, timeout=START_SECONDS, check=False, env={'TRUSTED_PROXIES': 'many'})
    assert (result.returncode, result.stdout.split()) == (0, ['Ada', 'Grace']), result.stderr


def test_an_interrupted_python_start_leaves_nothing_running(clone: Path, log: Path) -> None:
    with Started(PYTHON, clone, log, {'PORT': '0'}) as started:
        assert visits(started) == 1
        started.interrupt()
        assert 'Traceback' not in started.output


def test_the_ways_of_starting_share_one_embedded_database(clone: Path, log: Path) -> None:
    for expected, command in enumerate((PYTHON, MAKE, FLASK), 1):
        with Started(command, clone, log, {'PORT': '0'}) as started:
            assert visits(started) == expected
