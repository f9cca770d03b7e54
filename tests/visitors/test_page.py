"""The answers, the counted requests, and the headers of every answer; on PostgreSQL and on SQLite."""

from collections.abc import Iterator, Mapping
from datetime import datetime
import gzip
from pathlib import Path
import re
import socket
import time
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import make_url

from app import create_app
from tests.support.server import bring_up, BROWSER, ROOT, Server
from visitors.settings import Settings

ADDRESSES = (f'198.51.100.{number}' for number in range(1, 255))
FIREFOX, GOOGLEBOT = BROWSER, 'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)'
PATHS = ['/', '/stats.json', '/badge.svg', '/favicon.ico', '/robots.txt', '/version', '/livez', '/readyz', '/nothing']


@pytest.fixture(scope='module', params=['postgresql', 'sqlite'])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server behind one proxy, so that a test can choose its address."""
    if request.param == 'postgresql':
        url = request.getfixturevalue('postgresql').create_database()
    else:
        url = f'sqlite:///{tmp_path_factory.mktemp("page") / "visitors.sqlite3"}'
    owner = {'USER_NAME': 'Ada <L>', 'USER_URL': 'https://example.org/?a&b'}
    with Server(bring_up(url), TRUSTED_PROXIES='1', **owner) as running:
        yield running


@pytest.fixture(scope='module')
def developers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that a developer runs, with a name of its own and an owner without a valid URL."""
    url = bring_up(f'sqlite:///{tmp_path_factory.mktemp("developers") / "visitors.sqlite3"}')
    names = {'SITE_NAME': 'Ada & Co', 'USER_NAME': 'Ada', 'USER_URL': 'javascript:alert(1)'}
    with Server(url, FLASK_DEBUG='1', **names) as running:
        yield running


@pytest.fixture
def newcomer() -> dict[str, str]:
    """Give the header of a visitor who has never come before."""
    return {'X_Forwarded_For': next(ADDRESSES)}


def total(server: Server) -> int:
    match = re.search(r'Total visitors: (\d+)', server.get('/', DNT='1').text)
    assert match
    return int(match[1])


def test_each_visit_is_counted_and_worded_in_the_right_number(server: Server, newcomer: dict[str, str]) -> None:
    first, second, third = (server.get('/', **newcomer).text for _ in range(3))
    assert 'You have visited this page 1 time.' in first
    assert 'You have visited this page 2 times.' in second
    assert 'You have visited this page 3 times.' in third


def test_a_script_finds_each_of_the_two_sentences_once_and_its_number_whole(
        server: Server, newcomer: dict[str, str]) -> None:
    for _ in range(2):
        page = server.get('/', **newcomer).text
        assert len(re.findall(r'You have visited this page \d+ times?', page)) == 1
        assert len(re.findall(r'Total visitors: \d+', page)) == 1


def test_the_total_rises_by_one_with_a_visitor_and_not_with_a_visit(server: Server) -> None:
    totals = []
    for header in [{'X_Forwarded_For': next(ADDRESSES)} for _ in range(2)]:
        for _ in range(2):
            match = re.search(r'Total visitors: (\d+)', server.get('/', **header).text)
            assert match
            totals.append(int(match[1]))
    start = totals[0]
    assert totals == [start, start, start + 1, start + 1]


def test_tiles_and_chart_tell_a_new_visitor(server: Server, newcomer: dict[str, str]) -> None:
    before = server.statistics()
    server.visits(**newcomer)
    after = server.statistics()
    for key in ('today', 'last_7_days', 'last_30_days', 'total'):
        assert after[key] == before[key] + 1, key
    assert after['days'][-1]['newcomers'] == before['days'][-1]['newcomers'] + 1
    assert re.search(rf'<dt>Today</dt><dd>{after["today"]:,}</dd>', server.get('/', DNT='1').text)


@pytest.mark.parametrize(('headers', 'says'), [
    ({'DNT': '1'}, 'Do Not Track'),
    ({'Sec_GPC': '1'}, 'Global Privacy Control'),
    ({'User_Agent': GOOGLEBOT}, 'a program'),
    ({'User_Agent': 'ELB-HealthChecker/2.0'}, 'a program'),
    ({'User_Agent': 'Amazon-Route53-Health-Check-Service (ref 3b1d4c5e-1111-2222-3333-444455556666)'}, 'a program'),
    ({'User_Agent': 'kube-probe/1.31'}, 'a program'),
    ({'User_Agent': 'curl/8.5.0'}, 'a program'),
    ({'User_Agent': ''}, 'a program'),
])
def test_who_is_not_a_visitor_is_served_the_totals_and_told_why(
        server: Server, newcomer: dict[str, str], headers: dict[str, str], says: str) -> None:
    server.visits(**newcomer)
    answer = server.get('/', **newcomer, **headers)
    assert answer.status_code == 200
    assert 'This visit is not counted' in answer.text
    assert says in answer.text
    assert re.search(r'Total visitors: [1-9]', answer.text)
    assert server.visits(**newcomer) == 2


@pytest.mark.parametrize('headers', [
    {'Sec_Purpose': 'prefetch'},
    {'Sec_Purpose': 'prefetch;prerender'},
    {'Sec_Purpose': 'prefetch;anonymous-client-ip'},
    {'Sec_Purpose': 'prefetch', 'DNT': '1'},
    {'Sec_Purpose': 'prefetch', 'User_Agent': 'curl/8.5.0'},
    {'Purpose': 'prefetch'},
    {'Purpose': 'preview'},
    {'X_Purpose': 'preview'},
    {'X_Moz': 'prefetch'},
])
def test_a_request_in_advance_is_refused_so_that_no_person_reads_its_answer(
        server: Server, newcomer: dict[str, str], headers: dict[str, str]) -> None:
    server.visits(**newcomer)
    server.get('/', **newcomer)  # now the shortcut has all it needs to answer by itself
    answer = server.get('/', **newcomer, **headers)
    assert (answer.status_code, answer.headers['Cache-Control']) == (503, 'no-store')
    assert 'not served in advance' in answer.text
    assert 'not counted' not in answer.text
    assert server.visits(**newcomer) == 3


@pytest.mark.parametrize('headers', [{'DNT': '0'}, {'Sec_GPC': '0'}, {'Purpose': 'navigate'}, {'Sec_Purpose': ''}])
def test_a_header_that_asks_for_nothing_does_not_keep_a_visit_from_counting(
        server: Server, newcomer: dict[str, str], headers: dict[str, str]) -> None:
    assert [server.visits(**newcomer, **headers) for _ in range(2)] == [1, 2]


@pytest.mark.parametrize('agent', [
    FIREFOX,
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 '
    'Mobile/15E148 Safari/604.1',
    'Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)',
    'Opera/9.80 (Windows NT 6.1; U; en) Presto/2.8.131 Version/11.11',
])
def test_a_browser_is_a_visitor(server: Server, newcomer: dict[str, str], agent: str) -> None:
    assert server.visits(**newcomer, User_Agent=agent) == 1


def test_a_head_request_is_answered_and_not_counted(server: Server, newcomer: dict[str, str]) -> None:
    headers = {'X-Forwarded-For': newcomer['X_Forwarded_For'], 'User-Agent': BROWSER}
    for _ in range(2):
        answer = server.http.head(server.address, headers=headers, timeout=60)
        assert (answer.status_code, answer.content) == (200, b'')
    assert server.visits(**newcomer) == 1


@pytest.mark.parametrize('path', PATHS[1:])
def test_other_addresses_count_nothing(server: Server, newcomer: dict[str, str], path: str) -> None:
    server.visits(**newcomer)
    server.get(path, **newcomer)
    assert server.visits(**newcomer) == 2


def test_all_addresses_of_an_ipv6_64_are_one_visitor(server: Server) -> None:
    assert server.visits(X_Forwarded_For='2001:db8:7:7::1') == 1
    assert server.visits(X_Forwarded_For='[2001:db8:7:7:ffff::9]:4711') == 2
    assert server.visits(X_Forwarded_For='2001:db8:7:8::1') == 1


def test_a_forged_entry_left_of_the_balancers_does_not_count(server: Server) -> None:
    mine = next(ADDRESSES)
    assert server.visits(X_Forwarded_For=mine) == 1
    assert server.visits(X_Forwarded_For=f'203.0.113.5, {mine}') == 2
    assert server.visits(X_Forwarded_For=f'"203.0.113.5, {mine}') == 3


def test_several_headers_are_one_list_and_their_last_entry_counts(server: Server) -> None:
    mine = next(ADDRESSES)
    assert server.visits(X_Forwarded_For=mine) == 1
    answer = raw(server, f'X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-For: {mine}\r\n')
    assert 'You have visited this page 2 times' in answer
    # A header of nearly the same name does not count: a server that passes both to WSGI would mix them up.
    answer = raw(server, f'X-Forwarded-For: {mine}\r\nX_Forwarded_For: 203.0.113.5\r\n')
    assert 'You have visited this page 3 times' in answer


def raw(server: Server, headers: str) -> str:
    """Return the answer to a browser's request whose other headers are written exactly so."""
    host, _, port = server.address.removeprefix('http://').partition(':')
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f'GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\n{headers}'
                           'Connection: close\r\n\r\n'.encode())
        return b''.join(iter(lambda: connection.recv(65536), b'')).decode()


def test_an_ipv4_address_counts_alike_in_every_form(server: Server) -> None:
    mine = next(ADDRESSES)
    forms = [mine, f'{mine}:80', f'"{mine}"', f'::ffff:{mine}', f'[::ffff:{mine}]:80', f'203.0.113.5 ,  {mine}']
    assert [server.visits(X_Forwarded_For=form) for form in forms] == [1, 2, 3, 4, 5, 6]


def test_junk_in_the_header_counts_the_peer_and_not_one_visitor_for_all(server: Server) -> None:
    first = server.visits(X_Forwarded_For='unknown')
    assert server.visits(X_Forwarded_For='') == first + 1
    assert server.visits() == first + 2


def test_without_a_trusted_proxy_the_header_is_nothing(sqlite_url: str) -> None:
    with Server(bring_up(sqlite_url)) as direct:
        assert direct.visits(X_Forwarded_For='203.0.113.1') == 1
        assert direct.visits(X_Forwarded_For='203.0.113.2') == 2


@pytest.mark.parametrize('path', PATHS)
def test_every_answer_carries_the_security_headers_once(server: Server, path: str) -> None:
    headers = server.get(path).headers
    assert headers['Content-Security-Policy'].startswith("default-src 'none'; style-src 'self';")
    assert "frame-ancestors 'none'" in headers['Content-Security-Policy']
    assert headers['X-Content-Type-Options'] == 'nosniff'
    assert headers['X-Frame-Options'] == 'DENY'
    assert headers['Referrer-Policy'] == 'no-referrer'


@pytest.mark.parametrize('path', [path for path in PATHS if path not in ('/badge.svg', '/favicon.ico', '/robots.txt')])
def test_no_cache_may_keep_an_answer(server: Server, path: str) -> None:
    assert server.get(path).headers['Cache-Control'] == 'no-store'


@pytest.mark.parametrize('accepts', ['gzip', 'identity'])
def test_a_page_of_the_shortcut_and_one_of_the_framework_have_the_same_headers(server: Server, accepts: str) -> None:
    server.get('/')
    headers = {'Accept-Encoding': accepts}
    short = server.http.get(server.address, headers=headers, timeout=60).headers
    long = server.http.head(server.address, headers=headers, timeout=60).headers
    left_out = {'Date', 'Content-Length'}
    assert {name: short[name] for name in short if name not in left_out} == {
        name: long[name] for name in long if name not in left_out}


def test_a_view_that_fails_after_its_count_is_a_small_page_and_counted_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings.from_environ({'DATABASE_URL': f'sqlite:///{tmp_path / "visitors.sqlite3"}'}))
    client = app.test_client()
    browser = {'User-Agent': BROWSER}
    assert 'You have visited this page 1 time' in client.get('/', headers=browser).text
    time.sleep(1.1)  # the numbers are old now, so the page is rendered again
    with monkeypatch.context() as patch:
        patch.delattr('visitors.page.render_template')
        answer = client.get('/', headers=browser)
    assert answer.status_code == 500
    assert '<title>Internal Server Error' in answer.text
    assert answer.headers['Cache-Control'] == 'no-store'
    assert answer.headers['X-Frame-Options'] == 'DENY'
    assert 'NameError' in caplog.text, 'the log does not say why'
    assert 'You have visited this page 3 times' in client.get('/', headers=browser).text


def test_the_static_files_of_a_version_may_be_kept_for_ever(server: Server) -> None:
    match = re.search(r'href="(/static/style\.css\?v=[^"]+)"', server.get('/', DNT='1').text)
    assert match
    for accepts in ('gzip', 'identity'):
        answer = server.get(match[1], Accept_Encoding=accepts)
        assert answer.status_code == 200
        assert answer.headers['Cache-Control'] == 'public, max-age=31536000, immutable'
    assert server.get('/static/style.css').headers['Cache-Control'] == 'no-cache'


@pytest.mark.parametrize('query', ['v=never-was', 'v=', 'v={version}.1', 'v={version}&v=never-was',
                                   'v=never-was&v={version}', 'v={version}%20'])
@pytest.mark.parametrize('name', ['style.css', 'favicon.svg'])
def test_a_static_file_of_another_version_is_kept_by_no_cache(server: Server, name: str, query: str) -> None:
    version = server.get('/version').json()['version'].replace('+', '%2B')
    answer = server.get(f'/static/{name}?{query.format(version=version)}')
    assert answer.status_code == 200, 'during a roll the other release still has to show something'
    assert answer.headers['Cache-Control'] == 'no-store'


def test_a_missing_static_file_of_this_version_is_kept_by_no_cache(server: Server) -> None:
    version = server.get('/version').json()['version'].replace('+', '%2B')
    answer = server.get(f'/static/nothing.css?v={version}')
    assert (answer.status_code, answer.headers['Cache-Control']) == (404, 'no-store')


def test_a_developers_static_files_are_kept_by_no_cache(developers: Server) -> None:
    version = developers.get('/version').json()['version'].replace('+', '%2B')
    assert developers.get(f'/static/style.css?v={version}').headers['Cache-Control'] == 'no-store'


def encoded(server: Server, path: str, accepts: str | None) -> tuple[bytes, Mapping[str, str]]:
    """Return the bytes of an answer as they come, and its headers."""
    with server.http.get(server.address + path, headers={'Accept-Encoding': accepts, 'DNT': '1'}, stream=True,
                         timeout=60) as answer:
        return answer.raw.read(decode_content=False), answer.headers


def without_moment(content: bytes) -> bytes:
    """Return an answer without the moment of its numbers."""
    return re.sub(rb'"as_of":"[^"]*"', b'', content)


@pytest.mark.parametrize('path', ['/', '/stats.json', '/static/style.css'])
@pytest.mark.parametrize('accepts', ['gzip', 'gzip, deflate, br, zstd', 'br;q=1, gzip;q=0.8, *;q=0.1', 'GZIP', '*'])
def test_a_client_that_accepts_gzip_gets_the_same_content_in_fewer_bytes(
        server: Server, path: str, accepts: str) -> None:
    plain, before = b'', b'nothing yet'
    while plain != before:  # the numbers are renewed once a second, perhaps between two requests
        before = without_moment(encoded(server, path, 'identity')[0])
        body, headers = encoded(server, path, accepts)
        plain = without_moment(encoded(server, path, 'identity')[0])
    assert headers['Content-Encoding'] == 'gzip'
    assert len(body) == int(headers['Content-Length']) < len(plain) * 0.7
    assert without_moment(gzip.decompress(body)) == plain


@pytest.mark.parametrize('path', ['/', '/stats.json', '/static/style.css', '/nothing'])
@pytest.mark.parametrize('accepts', [None, '', 'identity', 'br', 'gzip;q=0', 'gzip;q=0, *', 'identity, gzip;q=0.5'])
def test_a_client_that_does_not_accept_gzip_gets_none(server: Server, path: str, accepts: str | None) -> None:
    body, headers = encoded(server, path, accepts)
    assert 'Content-Encoding' not in headers
    assert not body.startswith(b'\x1f\x8b')
    assert len(body) == int(headers['Content-Length'])


@pytest.mark.parametrize('path', ['/', '/stats.json', '/static/style.css', '/nothing'])
@pytest.mark.parametrize('accepts', ['gzip', 'identity'])
def test_a_cache_keeps_what_is_compressed_apart(server: Server, path: str, accepts: str) -> None:
    server.get(path)
    for _ in range(2):  # the second page comes from the shortcut
        assert encoded(server, path, accepts)[1]['Vary'] == 'Accept-Encoding'


def test_a_compressed_page_holds_the_numbers_of_its_own_view(server: Server, newcomer: dict[str, str]) -> None:
    headers = {'X-Forwarded-For': newcomer['X_Forwarded_For'], 'Accept-Encoding': 'gzip'}
    for visit in range(1, 4):
        with server.http.get(server.address, headers=headers, stream=True, timeout=60) as answer:
            page = gzip.decompress(answer.raw.read(decode_content=False)).decode()
        assert f'You have visited this page {visit} time' in page
        assert page.endswith('</html>')


def test_a_part_of_a_file_is_not_compressed(server: Server) -> None:
    answer = server.get('/static/style.css', Range='bytes=0-9', Accept_Encoding='gzip')
    assert (answer.status_code, len(answer.content)) == (206, 10)


def test_a_compressed_file_that_has_not_changed_is_not_sent_again(server: Server) -> None:
    first = server.get('/static/style.css')
    assert first.headers['Content-Encoding'] == 'gzip'
    assert server.get('/static/style.css', If_None_Match=first.headers['ETag']).status_code == 304


@pytest.mark.parametrize(('path', 'seconds'), [('/badge.svg', 60), ('/favicon.ico', 86400), ('/robots.txt', 86400)])
def test_what_other_pages_and_browsers_fetch_often_may_be_kept_for_a_while(
        server: Server, path: str, seconds: int) -> None:
    assert server.get(path).headers['Cache-Control'] == f'public, max-age={seconds}'


def test_the_badge_shows_what_it_counts_and_the_total(server: Server) -> None:
    total = f'{server.statistics()["total"]:,}'
    answer = server.get('/badge.svg')
    assert answer.headers['Content-Type'].startswith('image/svg+xml')
    drawing = ElementTree.fromstring(answer.text)
    texts = [each.text for each in drawing.iter('{http://www.w3.org/2000/svg}text')]
    assert texts == ['visitors', total]
    assert drawing.attrib['aria-label'] == f'visitors: {total}'


@pytest.mark.parametrize('path', ['/badge.svg', '/stats.json'])
def test_pages_of_other_hosts_may_read_the_numbers(server: Server, path: str) -> None:
    headers = server.get(path, Origin='https://elsewhere.example').headers
    assert headers['Access-Control-Allow-Origin'] == '*'
    assert headers['Cross-Origin-Resource-Policy'] == 'cross-origin'
    assert 'Access-Control-Allow-Credentials' not in headers


@pytest.mark.parametrize('path', [path for path in PATHS if path not in ('/badge.svg', '/stats.json')])
def test_pages_of_other_hosts_may_read_nothing_else(server: Server, path: str) -> None:
    headers = server.get(path, Origin='https://elsewhere.example').headers
    assert 'Access-Control-Allow-Origin' not in headers
    assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'


@pytest.mark.parametrize(('path', 'opening'), [
    ('/favicon.ico', b'\x00\x00\x01\x00\x01\x00\x20\x20'), ('/static/touch-icon.png', b'\x89PNG\r\n\x1a\n'),
])
def test_there_is_an_icon_for_what_takes_no_drawing(server: Server, path: str, opening: bytes) -> None:
    answer = server.get(path)
    assert answer.status_code == 200
    assert answer.content.startswith(opening)


def test_the_owner_is_named_and_linked_and_cannot_inject_markup(server: Server) -> None:
    assert 'A page by <a href="https://example.org/?a&amp;b">Ada &lt;L&gt;</a>' in server.get('/', DNT='1').text


def test_the_site_is_called_as_its_owner_wants_on_every_page(developers: Server) -> None:
    page, missing = developers.get('/', DNT='1').text, developers.get('/nothing').text
    assert '<title>Ada &amp; Co</title>' in page
    assert '<meta property="og:site_name" content="Ada &amp; Co">' in page
    assert '<title>Not Found · Ada &amp; Co</title>' in missing
    for text in (page, missing):
        assert 'height="28">Ada &amp; Co</a>' in text
        assert 'Visitors</a>' not in text


def test_a_page_with_a_public_address_names_it_and_a_picture_in_full(tmp_path: Path) -> None:
    url = bring_up(f'sqlite:///{tmp_path / "visitors.sqlite3"}')
    with Server(url, PUBLIC_URL='https://visitors.example.org/v', URL_PREFIX='/v') as server:
        page = server.get('/v/', Host='evil.example', X_Forwarded_Host='evil.example').text
        assert '<link rel="canonical" href="https://visitors.example.org/v/">' in page
        assert '<meta property="og:url" content="https://visitors.example.org/v/">' in page
        (picture,) = re.findall('<meta property="og:image" content="https://visitors.example.org(/v/static/[^"]+)">',
                                page)
        assert server.get(picture).headers['Content-Type'] == 'image/png'
        assert '<link rel="stylesheet" href="/v/static/' in page, 'other links need no host'
        assert 'canonical' not in server.get('/v/nothing').text


def test_a_page_without_a_public_address_names_none(server: Server) -> None:
    assert not re.search('canonical|og:url|og:image|localhost', server.get('/', DNT='1').text)


def test_an_owner_without_an_http_address_is_not_a_link(developers: Server) -> None:
    page = developers.get('/', DNT='1').text
    assert 'A page by Ada<' in page
    assert 'javascript' not in page


def test_statistics_have_the_promised_keys(server: Server) -> None:
    answer = server.get('/stats.json')
    numbers: dict[str, Any] = answer.json()
    assert answer.headers['Content-Type'] == 'application/json'
    reference = (ROOT / 'docs' / 'reference.md').read_text(encoding='utf-8')
    (promised,) = re.findall(r'^\| `/stats\.json` \| (.*) \|$', reference, re.MULTILINE)
    parts = {'day', 'visitors', 'newcomers', 'monday', 'visitor_days'}
    assert set(numbers) == set(re.findall('`([a-z0-9_]+)`', promised)) - parts
    assert (len(numbers['days']), len(numbers['weeks'])) == (30, 53)
    assert all(set(week) == {'monday', 'visitor_days', 'newcomers'} for week in numbers['weeks'])
    assert numbers['best_day'] is None or set(numbers['best_day']) == {'day', 'visitors', 'newcomers'}
    assert datetime.fromisoformat(numbers['as_of']).utcoffset() is not None
    assert all(set(day) == {'day', 'visitors', 'newcomers'} for day in numbers['days'])
    assert [day['day'] for day in numbers['days']] == sorted(day['day'] for day in numbers['days'])


def test_the_version_is_told_with_its_origin_and_schema(server: Server) -> None:
    assert set(server.get('/version').json()) == {'version', 'commit', 'build_time', 'schema'}


def test_to_ask_whether_it_lives_touches_no_database(sqlite_url: str) -> None:
    file = Path(str(make_url(sqlite_url).database))
    with Server(sqlite_url) as server:
        assert server.get('/livez').status_code == 200
        assert not file.exists()
        assert server.visits() == 1
        assert file.exists(), 'this test looks in the wrong place'


def test_a_running_server_lives_and_is_ready(server: Server) -> None:
    assert server.get('/livez').json() == {'alive': True}
    answer = server.get('/readyz')
    assert (answer.status_code, answer.json()['ready'], answer.json()['schema']) == (200, True, 'READY')


def test_an_unknown_address_is_a_small_page(server: Server) -> None:
    answer = server.get('/nothing/here')
    assert answer.status_code == 404
    assert '<title>Not Found' in answer.text
    assert len(answer.content) < 3000


def test_an_unknown_address_of_json_is_json(server: Server) -> None:
    answer = server.get('/nothing.json')
    assert (answer.status_code, answer.json()['error']) == (404, 'Not Found')


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH'])
def test_another_method_is_refused_and_told_which_would_do(server: Server, method: str) -> None:
    answer = server.http.request(method, server.address + '/', data=b'x', timeout=60)
    assert answer.status_code == 405
    assert {'GET', 'HEAD'} <= set(answer.headers['Allow'].split(', '))
    assert '<title>Method Not Allowed' in answer.text


@pytest.mark.parametrize('request_head', [
    b'GET /' + b'x' * 3000 + b' HTTP/1.1\r\nHost: a\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: a\r\nX-Long: ' + b'x' * 9000 + b'\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: a\r\n' + b''.join(b'X-%d: 1\r\n' % number for number in range(80)) + b'\r\n',
], ids=['a long line', 'a long header', 'many headers'])
def test_an_oversized_request_is_refused(server: Server, request_head: bytes) -> None:
    host, _, port = server.address.removeprefix('http://').partition(':')
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request_head)
        status = connection.recv(100).split(b'\r\n')[0]
    assert re.match(rb'HTTP/1.1 4(00|14|31) ', status), status


def test_page_and_logs_show_no_visitors_address_and_no_database(server: Server) -> None:
    mine = next(ADDRESSES)
    server.visits(X_Forwarded_For=mine)
    for path in PATHS:
        text = server.get(path, X_Forwarded_For=mine).text
        assert mine not in text
        assert not re.search('PostgreSQL|SQLite', text), 'what runs behind the page is its own affair'
    assert mine not in server.stdout() + server.stderr()


def test_only_a_request_in_advance_is_marked_in_the_access_log(server: Server, newcomer: dict[str, str]) -> None:
    before = len(server.access_log('/'))
    server.get('/', **newcomer, Sec_Purpose='prefetch')
    server.get('/', **newcomer)
    lines = server.access_log('/', least=before + 2)[before:]
    assert [(line['status'], line.get('in_advance')) for line in lines] == [(503, True), (200, None)]


def test_the_access_log_is_json_without_query_and_agent(server: Server) -> None:
    before = len(server.access_log('/version'))
    server.get('/version?secret=word')
    line = server.access_log('/version', least=before + 1)[-1]
    assert set(line) == {'time', 'method', 'path', 'status', 'bytes', 'milliseconds'}
    assert (line['method'], line['path'], line['status']) == ('GET', '/version', 200)
    assert 'word' not in server.stdout()
