"""The requests that are visits, by one header and one word of their clients at a time."""

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from fake_useragent import FakeUserAgent
from hypothesis import given, strategies as st
import pytest

from tests.support.server import BROWSER
from visitors.agents import is_program, reason_not_to_count

BROWSERS = [
    BROWSER,
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36',
    'Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)',
    'Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36',
    'Opera/9.80 (Windows NT 6.1; U; en) Presto/2.8.131 Version/11.11',
    'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36 '
    '(Ecosia android@150.0.0.0)',
]
# Each holds one word only by which a program gives itself away; the openings are a browser's.
PROGRAMS = [
    'Mozilla/5.0 (Linux) Examplebot/1.0', 'Mozilla/5.0 (Linux) Example-Crawler', 'Mozilla/5.0 (Linux) Examplespider/2',
    'Mozilla/5.0 (Linux; +http://example.org)', 'Mozilla/5.0 (Linux; +https://example.org)',
    'Mozilla/5.0 (Linux; www.example.org)', 'Mozilla/5.0 (Linux; owner@example.org)',
    'Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/141.0', 'Mozilla/5.0 (Windows NT 10.0) ExampleUriPreview/1.0',
    'Mozilla/5.0 (Linux) Examplescan', 'Mozilla/5.0 (Linux) ExampleMonitor/3', 'Mozilla/5.0 (compatible; Example)',
]
OTHERS = ['', 'curl/8.5.0', 'ELB-HealthChecker/2.0', 'kube-probe/1.31', ' Mozilla/5.0 (X11)', 'Mozilla/5.0', 'Opera',
          'python-requests/2.32', 'Mozilla/4.0 (X11)']
WORDS = st.sampled_from(['bot', 'crawl', 'spider', 'http:', 'https:', 'www.', '@', 'headless', 'preview', 'scan',
                         'monitor', 'compatible; x'])


def request(method: str = 'GET', **headers: str) -> dict[str, str]:
    """Return a browser's request as WSGI gives it."""
    given_headers = {f'HTTP_{name}': text for name, text in headers.items()}
    return {'REQUEST_METHOD': method, 'HTTP_USER_AGENT': BROWSER, **given_headers}


@pytest.mark.parametrize('agent', BROWSERS)
def test_a_browser_is_no_program(agent: str) -> None:
    assert not is_program(agent)


@pytest.mark.parametrize('agent', [*PROGRAMS, *OTHERS])
def test_a_program_is_known_by_its_opening_or_by_one_word(agent: str) -> None:
    assert is_program(agent)


def test_none_of_the_browsers_by_which_this_was_decided_is_a_program() -> None:
    agents = {browser['useragent'] for browser in FakeUserAgent().data_browsers}
    assert len(agents) > 800, 'this test looks in the wrong place'
    assert [agent for agent in sorted(agents) if is_program(agent)] == []


def test_every_agent_of_the_public_list_of_crawlers_is_a_program() -> None:
    agents = {agent for crawler in CRAWLER_USER_AGENTS_DATA for agent in crawler['instances']}
    assert len(agents) > 2000, 'this test looks in the wrong place'
    assert [agent for agent in sorted(agents) if not is_program(agent)] == []


@pytest.mark.parametrize('name', ['Chrome-Lighthouse', 'Playwright', 'ThousandEyes'])
def test_a_program_of_the_public_list_is_known_at_the_end_of_any_browsers_agent(name: str) -> None:
    for browser in BROWSERS:
        assert is_program(f'{browser} {name}')


def test_the_list_is_looked_through_only_as_far_as_a_browsers_agent_goes() -> None:
    assert is_program(BROWSER.ljust(502) + 'Playwright') is True
    assert is_program(BROWSER.ljust(503) + 'Playwright') is False


@given(agent=st.sampled_from(BROWSERS), word=WORDS, upper=st.booleans())
def test_a_word_gives_a_program_away_at_any_browsers_end_in_any_case(agent: str, word: str, upper: bool) -> None:
    assert is_program(f'{agent} {word.upper() if upper else word}')


@pytest.mark.parametrize(('given_request', 'reason'), [
    (request(), None),
    (request('HEAD'), 'head'),
    (request(SEC_PURPOSE='prefetch'), 'prefetch'),
    (request(SEC_PURPOSE='prefetch;prerender'), 'prefetch'),
    (request(PURPOSE='Prefetch'), 'prefetch'),
    (request(PURPOSE='preview'), 'prefetch'),
    (request(SEC_PURPOSE='Prerender'), 'prefetch'),
    (request(X_MOZ='prefetch'), 'prefetch'),
    (request(X_PURPOSE='preview'), 'prefetch'),
    (request(SEC_PURPOSE='navigate', PURPOSE='', X_MOZ='x', X_PURPOSE='?'), None),
    (request(SEC_GPC='1'), 'gpc'),
    (request(SEC_GPC=' 1 '), 'gpc'),
    (request(SEC_GPC='0'), None),
    (request(SEC_GPC='11'), None),
    (request(DNT='1'), 'dnt'),
    (request(DNT=' 1 '), 'dnt'),
    (request(DNT='0'), None),
    (request(USER_AGENT='curl/8.5.0'), 'bot'),
    ({'REQUEST_METHOD': 'GET'}, 'bot'),
])
def test_a_request_counts_unless_one_thing_says_otherwise(given_request: dict[str, str], reason: str | None) -> None:
    assert reason_not_to_count(given_request) == reason


def test_of_several_reasons_the_visitors_own_wish_goes_before_what_the_program_is() -> None:
    everything = request('HEAD', SEC_PURPOSE='prefetch', SEC_GPC='1', DNT='1', USER_AGENT='curl/8.5.0')
    reasons = []
    for name in ('REQUEST_METHOD', 'HTTP_SEC_PURPOSE', 'HTTP_SEC_GPC', 'HTTP_DNT', 'HTTP_USER_AGENT'):
        reasons.append(reason_not_to_count(everything))
        everything[name] = request().get(name, '')
    assert reasons == ['head', 'prefetch', 'gpc', 'dnt', 'bot']
    assert reason_not_to_count(everything) is None
