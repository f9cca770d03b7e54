"""What the server keeps apart: one request from the page of all, a slow client from others, a client from the log."""

from collections.abc import Iterator

import pytest

from tests.server import bring_up, BROWSER, Server

# Every header by which a proxy, or a client that plays one, says under which address it publishes an application.
EVIL = '\r\n'.join([
    'Host: evil.example', 'SCRIPT_NAME: {script_name}', 'PATH_INFO: /evil.example', 'X-Script-Name: /evil.example',
    'X-Forwarded-Host: evil.example', 'X-Forwarded-Prefix: /evil.example', 'X-Forwarded-Proto: https',
    'X-Original-URL: /evil.example', 'Forwarded: host=evil.example;proto=https', 'Referer: http://evil.example/'])


@pytest.fixture(scope='module')
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the URL of an embedded database with a schema."""
    return bring_up(f'sqlite:///{tmp_path_factory.mktemp("front") / "visitors.sqlite3"}')


@pytest.fixture(scope='module')
def server(url: str) -> Iterator[Server]:
    """Give a server of one process with two threads."""
    with Server(url, WORKERS='1', THREADS='2') as running:
        yield running


@pytest.mark.parametrize(('target', 'script_name'), [
    ('//evil.example/', '//evil.example'), ('/', ''), ('http://evil.example/', ''), ('/?next=//evil.example/', ''),
])
def test_nothing_of_one_request_is_in_the_page_of_the_next_visitor(server: Server, target: str,
                                                                   script_name: str) -> None:
    server.statistics()  # the kept page is too old now, so the next request renders it
    head = f'GET {target} HTTP/1.1\r\n{EVIL.format(script_name=script_name)}\r\nUser-Agent: {BROWSER}\r\n'
    assert server.exchange(f'{head}Connection: close\r\n\r\n'.encode()).startswith('HTTP/1.1 ')
    page = server.get('/').text
    assert 'href="/stats.json"' in page
    assert 'evil.example' not in page and 'https:' not in page


@pytest.mark.parametrize('strips', [True, False], ids=['a proxy that strips it', 'a proxy that leaves it'])
def test_below_a_prefix_all_links_lead_there_and_the_page_is_counted(url: str, strips: bool) -> None:
    before = '' if strips else '/below/here'
    with Server(url, URL_PREFIX='/below/here/', SCRIPT_NAME='/elsewhere') as running:
        first, second = running.visits(), running.visits()
        assert second == first + 1
        for path in ('/', '/nothing'):
            page = running.get(before + path).text
            assert page.count('="/') == page.count('="/below/here/') > 2
        assert running.get(f'{before}/static/style.css').status_code == 200
        assert running.get(f'{before}/readyz').json()['ready'] is True
        assert running.get('/below/here').status_code == 200
        assert running.get('/below/hereafter').status_code == 404
