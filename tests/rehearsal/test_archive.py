"""Debian's archive for machines, the cache of made files, and the command of a machine."""

from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path
from threading import Thread
import time
from typing import Any

import pytest
from werkzeug.test import Client

from rehearsal.machines.archive import Archive
from rehearsal.machines.cache import kept, KEPT_SECONDS
from rehearsal.machines.debian import mirrors
from rehearsal.machines.machine import kernel_command_line, LEGACY_CGROUPS
from rehearsal.naming import short_hash


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Give the URL of a mirror that has one package, and a file beside the archive."""
    (tmp_path / 'debian/pool').mkdir(parents=True)
    (tmp_path / 'debian/pool/one.deb').write_bytes(b'package')
    (tmp_path / 'secret').write_text('not for machines', encoding='ascii')

    class Handler(SimpleHTTPRequestHandler):
        """A handler that serves the folder and logs nothing."""

        def __init__(self, *arguments: Any) -> None:
            """Serve the test's folder."""
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments: Any) -> None:
            """Log nothing."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_address[1]}/debian'
    server.shutdown()
    server.server_close()


def archive(mirror: str) -> Client:
    return Client(Archive({'debian': mirror}, {}))


def test_packages_are_fetched_from_the_mirror(mirror: str) -> None:
    answer = archive(mirror).get('/debian/pool/one.deb')
    assert (answer.status_code, answer.data) == (200, b'package')
    assert archive(mirror).head('/debian/pool/one.deb').headers['Content-Length'] == '7'


def test_an_unchanged_file_is_not_sent_again(mirror: str) -> None:
    date = archive(mirror).get('/debian/pool/one.deb').headers['Last-Modified']
    assert archive(mirror).get('/debian/pool/one.deb', headers={'If-Modified-Since': date}).status_code == 304


@pytest.mark.parametrize('path', ['/', '/secret', '/debian/../secret', '/debian/%2e%2e/secret', '//example.org/',
                                  '/debianx/pool/one.deb', '/http://example.org/'])
def test_nothing_else_can_be_read(mirror: str, path: str) -> None:
    answer = archive(mirror).get(path)
    assert answer.status_code == 403 and b'secret' not in answer.data


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'CONNECT'])
def test_nothing_can_be_sent(mirror: str, method: str) -> None:
    assert archive(mirror).open('/debian/pool/one.deb', method=method).status_code == 403


def test_a_mirror_that_does_not_answer_is_reported() -> None:
    answer = archive('http://127.0.0.1:9/debian').get('/debian/pool/one.deb')
    assert answer.status_code == 502 and b'cannot be reached' in answer.data


def test_both_folders_of_the_archive_have_a_place() -> None:
    urls = mirrors()
    assert set(urls) == {'debian', 'debian-security'}
    assert all(url.startswith(('http://', 'https://')) and not url.endswith('/') for url in urls.values())


def test_a_file_is_made_once_and_kept_while_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    calls: list[str] = []

    def make(path: Path) -> None:
        calls.append('once')
        path.touch()
    old, used = kept('file', 'old', make), kept('file', 'used', make)
    long_ago = time.time() - KEPT_SECONDS - 60
    for path in (old, used):
        os.utime(path, (long_ago, long_ago))
    assert kept('file', 'used', make) == used and len(calls) == 2
    assert used.stat().st_mtime == pytest.approx(long_ago), 'it has the time of its making'
    new = kept('file', 'new', make)
    assert new.name == f'file-{short_hash("new")}'
    assert (old.exists(), used.exists(), new.exists()) == (False, True, True)


def test_only_the_first_version_of_cgroups_needs_to_be_asked_for() -> None:
    assert set(LEGACY_CGROUPS) <= set(kernel_command_line(unified_cgroups=False))
    assert not set(LEGACY_CGROUPS) & set(kernel_command_line(unified_cgroups=True))
    for unified in (True, False):
        assert kernel_command_line(unified)[0] == '/lib/systemd/systemd'
        assert 'systemd.mask=systemd-udevd.service' in kernel_command_line(unified)
