"""The page as a visitor sees and uses it, in a real Chromium on the real server."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from itertools import combinations
import re
import sqlite3
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, expect, Locator, Page, Request
import pytest

from tests.support.server import bring_up, BROWSER, Server, today
from tests.tools.demonstration import chromium, fill

WIDTHS = (320, 390, 768, 1440)
SCHEMES = ('light', 'dark')
NUMBERS = ('usual', 'large', 'first')
# All texts of the page, also those of the drawing; no two of them may overlap.
TEXTS = ('.brand, .version, h1, .greeting p, h2, .tiles dt, .tiles dd, .legend li, .best, .hint, .axis text, '
         '.drawing text, summary, .start, .bottom p')
# How many days there is room for at each width, if each of them is wide enough for a finger.
DAYS_SHOWN = {320: 7, 390: 10, 768: 21, 1440: 30}
LEAST_TARGET = 24  # WCAG 2.2, success criterion 2.5.8
LEVELS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
RULES = {'runOnly': {'type': 'tag', 'values': LEVELS}}
SHOWN_BOXES = """
elements => elements.filter(element => element.checkVisibility({visibilityProperty: true})).map(element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const {left, top, right, bottom} = range.getBoundingClientRect();
    return {text: element.textContent.trim(), left, top, right, bottom};
})
"""
SHOWN_BOXES_OF_TARGETS = """
elements => elements.filter(element => element.checkVisibility({visibilityProperty: true})).map(element => {
    const {width, height} = element.getBoundingClientRect();
    return {text: element.textContent.trim(), width, height};
})
"""
DASHES = 'all => all.map(each => getComputedStyle(each).strokeDasharray)'
FOCUSED = '[document.activeElement.localName, document.activeElement.textContent.trim()]'
OUTLINE = 'element => [getComputedStyle(element).outlineStyle, parseFloat(getComputedStyle(element).outlineWidth)]'
BACKGROUND = r'getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).slice(0, 3).map(Number)'
FILL = 'element => getComputedStyle(element).fill'
TRANSITIONS_ENDED = 'Promise.allSettled(document.getAnimations().map(animation => animation.finished)).then(() => 0)'

Visit = Callable[..., Page]


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    """Give the one Chromium of this file; it ends with the file, since its event loop would disturb other tests."""
    with chromium() as running:
        yield running


@pytest.fixture(scope='module')
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Give servers whose pages show usual numbers, large ones, and those of the first visitor ever."""
    urls = {name: bring_up(f'sqlite:///{tmp_path_factory.mktemp(name) / "visitors.sqlite3"}') for name in NUMBERS}
    fill(urls['usual'], today())
    fill_with_large_numbers(urls['large'], today())
    start = partial(Server, USER_NAME='Ada Lovelace', USER_URL='https://example.org/', TRUSTED_PROXIES='1')
    with start(urls['usual']) as usual, start(urls['large']) as large, start(urls['first']) as first:
        yield {'usual': usual, 'large': large, 'first': first}


def fill_with_large_numbers(url: str, last: date) -> None:
    """Write the counters of many millions of visitors into an empty database, which has no rows for them."""
    rows = [(last - timedelta(back), 0, 412_345 - back * 9_876, 54_321 + back, 400_000) for back in range(30)]
    rows.append((date(1, 1, 1), 0, 0, 0, -12_345_678))
    with sqlite3.connect(url.removeprefix('sqlite:///')) as connection:
        connection.executemany('INSERT INTO days (day, shard, visitors, newcomers, latest) VALUES (?, ?, ?, ?, ?)',
                               [(day.isoformat(), *numbers) for day, *numbers in rows])
    connection.close()


@pytest.fixture(scope='module')
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that has a page with speculation rules for the front page beside it."""
    url = bring_up(f'sqlite:///{tmp_path_factory.mktemp("neighbour") / "visitors.sqlite3"}')
    with Server(url, application='tests.support.neighbour:create_app()', TRUSTED_PROXIES='1') as running:
        yield running


@pytest.fixture
def visit(browser: Browser, servers: dict[str, Server]) -> Iterator[Visit]:
    """Give a function that opens a page, and fail a test during which the browser has a complaint.

    So each test also proves that the console stays empty, where a browser reports failed requests and breaches of the
    content security policy, and that no request goes to another host.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def go(path: str = '/', numbers: str = 'usual', width: int = 1440, **options: Any) -> Page:
        context = browser.new_context(viewport={'width': width, 'height': 800}, user_agent=BROWSER, **options)
        contexts.append(context)
        page = context.new_page()
        listen(page, servers[numbers].address, path, complaints)
        page.goto(servers[numbers].address + path)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not complaints


def listen(page: Page, address: str, path: str, complaints: list[str]) -> None:
    """Collect the lines on the console of a page, and its requests to other hosts than its server."""
    def read(message: ConsoleMessage) -> None:
        # Chromium also reports a page whose own status is an error, such as the page for 404.
        if message.location.get('url') != address + path or 'status of 404' not in message.text:
            complaints.append(message.text)

    def look(request: Request) -> None:
        if not request.url.startswith(address + '/'):
            complaints.append(f'asks another host: {request.url}')

    page.on('console', read)
    page.on('request', look)


def numbers_of(label: Locator) -> list[int]:
    """Return the numbers of a day's callout: visitors, new, returning, without the number in the date."""
    text = label.locator('.callout').inner_text().replace(',', '')
    return [int(number) for number in re.findall(r'(\d+) (?:visitors?|new|returning)', text)]


def day_in_table(page: Page, index: int) -> list[int]:
    """Return the numbers of a day in the table: visitors, new, returning."""
    new, returning, visitors = page.locator('tbody tr').nth(index).locator('td').all_inner_texts()
    return [int(text.replace(',', '')) for text in (visitors, new, returning)]


def box_of(locator: Locator) -> dict[str, float]:
    """Return where in the window an element is."""
    return dict(locator.evaluate('element => element.getBoundingClientRect().toJSON()'))


def shown_callouts(page: Page) -> int:
    """Return how many callouts can be seen, when none of them is just appearing or vanishing."""
    page.evaluate(TRANSITIONS_ENDED)
    opacities = page.locator('.callout').evaluate_all('all => all.map(each => getComputedStyle(each).opacity)')
    return sum(opacity != '0' for opacity in opacities)


def violations(page: Page) -> list[str]:
    """Return a line for each accessibility rule that a page breaks, with the place of it."""
    rules = Axe().run(page, options=RULES).response['violations']
    return [f'{rule["id"]}: {node["target"]} {node["failureSummary"]}' for rule in rules for node in rule['nodes']]


def page_answers(server: Server, least: int = 0) -> list[int]:
    """Return the status codes of a server's answers at / when there are so many of them."""
    return [int(line['status']) for line in server.access_log('/', least)]


@pytest.mark.parametrize('act', ['prefetch', 'prerender'])
def test_a_page_that_chromium_asks_for_in_advance_counts_when_its_user_opens_it(
        browser: Browser, neighbour: Server, act: str) -> None:
    before = len(page_answers(neighbour))
    context = browser.new_context(user_agent=BROWSER, extra_http_headers={'X-Forwarded-For': f'192.0.2.{len(act)}'})
    page = context.new_page()
    page.goto(f'{neighbour.address}/neighbour?{act}')
    assert len(page_answers(neighbour, before + 1)) == before + 1, 'Chromium has asked for nothing in advance'
    page.get_by_role('link').click()
    expect(page.get_by_role('heading', level=1)).not_to_have_text('This visit is not counted')
    expect(page.locator('body')).to_contain_text('You have visited this page 1 time')
    assert page_answers(neighbour, before + 2)[before:] == [503, 200]
    context.close()


def test_a_page_that_is_gone_back_to_shows_a_visit_that_was_counted(browser: Browser, neighbour: Server) -> None:
    mine = {'X-Forwarded-For': '192.0.2.99'}
    context = browser.new_context(user_agent=BROWSER, extra_http_headers=mine)
    page = context.new_page()
    page.goto(neighbour.address)
    page.goto(neighbour.address + '/version')
    page.go_back()
    match = re.search(r'You have visited this page (\d+) time', page.content())
    assert match, 'the browser shows another page than it left'
    assert neighbour.visits(X_Forwarded_For=mine['X-Forwarded-For']) == int(match[1]) + 1
    context.close()


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('numbers', NUMBERS)
def test_everything_fits_into_the_window_and_nothing_overlaps(visit: Visit, numbers: str, width: int) -> None:
    page = visit(numbers=numbers, width=width)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    boxes = page.locator(TEXTS).evaluate_all(SHOWN_BOXES)
    assert len(boxes) > (20 if numbers != 'first' else 10)
    assert [box for box in boxes if box['left'] < 0 or box['right'] > width] == []
    assert [(one['text'], other['text']) for one, other in combinations(boxes, 2) if overlap(one, other)] == []


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Return whether two boxes share more than a hair's breadth."""
    across = min(one['right'], other['right']) - max(one['left'], other['left'])
    down = min(one['bottom'], other['bottom']) - max(one['top'], other['top'])
    return across > 1 and down > 1


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('numbers', ['usual', 'large'])
def test_pointing_at_a_day_shows_its_numbers_whole_and_above_the_bars(visit: Visit, numbers: str, width: int) -> None:
    page = visit(numbers=numbers, width=width)
    for index in (30 - DAYS_SHOWN[width], 25, 28, 29):
        label = page.locator('.days label').nth(index)
        label.hover()
        assert shown_callouts(page) == 1
        expect(label.locator('.callout')).to_have_css('opacity', '1')
        assert numbers_of(label) == day_in_table(page, index)
        callout, sheet, plot = (box_of(each) for each in (
            label.locator('.callout'), page.locator('.chart').first, page.locator('.drawing').first))
        assert callout['left'] >= 0 and callout['right'] <= width
        assert callout['top'] >= sheet['top'] and callout['bottom'] <= plot['top']


def test_tab_reaches_today_and_the_arrow_keys_the_other_days(visit: Visit) -> None:
    page = visit()
    days = page.locator('.days label')
    for index in (29, 28, 27):
        page.keyboard.press('ArrowLeft' if index < 29 else 'Tab')
        while index == 29 and page.evaluate(FOCUSED)[0] != 'input':
            page.keyboard.press('Tab')
        expect(days.nth(index).locator('input')).to_be_focused()
        expect(days.nth(index).locator('.callout')).to_have_css('opacity', '1')
        assert shown_callouts(page) == 1
        assert numbers_of(days.nth(index)) == day_in_table(page, index)


def test_all_that_can_be_reached_by_keyboard_shows_where_the_focus_is(visit: Visit) -> None:
    page = visit()
    reached = []
    for _ in range(6):
        page.keyboard.press('Tab')
        reached.append(page.evaluate(FOCUSED))
        style, width = page.locator(':focus').evaluate(OUTLINE)
        assert style == 'solid' and width >= 2, reached[-1]
    assert reached == [['a', 'Visitors'], ['input', ''], ['summary', 'Numbers by week'],
                       ['a', 'These numbers as JSON'], ['a', 'The total as a badge'], ['a', 'Ada Lovelace']]


def test_pointing_at_one_day_while_another_has_the_focus_shows_only_the_first(visit: Visit) -> None:
    page = visit()
    page.locator('.days input').nth(3).focus()
    page.locator('.days label').nth(25).hover()
    expect(page.locator('.days label').nth(25).locator('.callout')).to_have_css('opacity', '1')
    assert shown_callouts(page) == 1


def test_touching_a_day_shows_its_numbers(visit: Visit) -> None:
    page = visit(width=320, has_touch=True)
    label = page.locator('.days label').nth(24)
    label.tap()
    expect(label.locator('.callout')).to_have_css('opacity', '1')
    assert shown_callouts(page) == 1


def test_the_numbers_of_today_are_shown_until_another_day_is_chosen_and_marked_as_unfinished(visit: Visit) -> None:
    page = visit()
    assert shown_callouts(page) == 1
    today_label = page.locator('.days label').last
    expect(today_label.locator('.callout')).to_have_css('opacity', '1')
    expect(today_label.locator('.callout')).to_contain_text(', so far')
    expect(page.locator('.unfinished')).to_have_count(2)
    dashes = page.locator('.bar rect').evaluate_all(DASHES)
    assert dashes[0] == 'none' and dashes[-1] != 'none'


@pytest.mark.parametrize('width', [*WIDTHS, 360, 700])
@pytest.mark.parametrize('numbers', NUMBERS)
def test_all_that_can_be_touched_is_wide_and_high_enough_for_a_finger(
        visit: Visit, numbers: str, width: int) -> None:
    page = visit(numbers=numbers, width=width, has_touch=True)
    targets = page.locator('a, summary, .days input').evaluate_all(SHOWN_BOXES_OF_TARGETS)
    assert len(targets) >= 4
    assert [box for box in targets if min(box['width'], box['height']) < LEAST_TARGET] == []


@pytest.mark.parametrize('width', WIDTHS)
def test_a_narrow_screen_shows_fewer_days_and_they_are_the_latest(visit: Visit, width: int) -> None:
    page = visit(width=width)
    shown = page.locator('.days label').evaluate_all(
        "all => all.map(each => getComputedStyle(each).visibility === 'visible')")
    assert shown == [False] * (30 - DAYS_SHOWN[width]) + [True] * DAYS_SHOWN[width]
    window = box_of(page.locator('.window'))
    boxes = page.locator('.days label').evaluate_all('all => all.map(each => each.getBoundingClientRect().toJSON())')
    assert window['left'] <= boxes[30 - DAYS_SHOWN[width]]['left'] + 0.5
    assert boxes[-1]['right'] <= window['right'] + 0.5


def test_the_weeks_have_a_bar_each_and_their_numbers_in_a_table_that_opens(
        visit: Visit, servers: dict[str, Server]) -> None:
    page = visit()
    table = page.get_by_role('table', name=re.compile('weeks, the newest first'))
    expect(table).to_be_hidden()
    page.get_by_text('Numbers by week').click()
    expect(table).to_be_visible()
    assert violations(page) == []
    statistics = servers['usual'].statistics()
    since = date.fromisoformat(statistics['since'])
    weeks = [week for week in statistics['weeks'] if date.fromisoformat(week['monday']) > since - timedelta(7)]
    rows = [[int(text.replace(',', '')) for text in row.locator('td').all_inner_texts()]
            for row in table.locator('tbody tr').all()]
    assert rows == [[week['newcomers'], week['visitor_days'] - week['newcomers'], week['visitor_days']]
                    for week in reversed(weeks)]
    assert len(rows) > 15
    for part in ('newcomers', 'returning'):
        shapes = page.locator(f'.low path.{part}').evaluate_all("all => all.map(each => each.getAttribute('d'))")
        assert ''.join(shapes).count('M') == len(rows)


def test_the_page_compares_today_with_a_week_ago_and_says_since_when_it_counts(
        visit: Visit, servers: dict[str, Server]) -> None:
    page = visit()
    statistics = servers['usual'].statistics()
    since, best = (date.fromisoformat(text) for text in (statistics['since'], statistics['best_day']['day']))
    week_ago = statistics['days'][-8]
    tiles = page.locator('.tiles div')
    expect(tiles.first).to_contain_text(
        f'{week_ago["visitors"]} on {date.fromisoformat(week_ago["day"]):%A} a week ago')
    expect(tiles.last).to_contain_text(f'since {since.day} {since:%b %Y}')
    expect(page.locator('.best')).to_have_text(
        f'Best day: {best:%a} {best.day} {best:%b %Y} with {statistics["best_day"]["visitors"]} visitors.')


def test_a_new_database_says_that_counting_starts_today_and_draws_no_empty_days(visit: Visit) -> None:
    page = visit(numbers='first')
    expect(page.get_by_role('heading', name='Counting starts today')).to_be_visible()
    expect(page.locator('.chart')).to_have_count(0)
    expect(page.locator('.tiles div').last).to_contain_text('since today')
    assert violations(page) == []


def test_a_page_with_all_its_charts_takes_a_quarter_of_its_bytes_or_less(servers: dict[str, Server]) -> None:
    plain, compressed = (servers['usual'].get('/', DNT='1', Accept_Encoding=encoding)
                         for encoding in ('identity', 'gzip'))
    assert int(compressed.headers['Content-Length']) <= int(plain.headers['Content-Length']) / 4


def test_all_numbers_that_are_seen_have_one_form(visit: Visit) -> None:
    page = visit(numbers='large')
    shown = page.locator('main').inner_text()
    assert re.findall(r'\d{5,}', shown) == []
    assert re.findall(r'\d{1,3}(?:,\d{3})+', shown)


@pytest.mark.parametrize('numbers', NUMBERS)
def test_a_page_that_is_shared_says_its_name_and_numbers(
        visit: Visit, servers: dict[str, Server], numbers: str) -> None:
    page = visit(numbers=numbers, extra_http_headers={'DNT': '1'})
    total = f'{servers[numbers].statistics()["total"]:,}'
    described = {each.get_attribute('property') or each.get_attribute('name'): each.get_attribute('content') or ''
                 for each in page.locator('meta[name], meta[property]').all()}
    assert described['og:title'] == f'{total} visitors · Visitors'
    assert f' {total} in all' in described['description'] == described['og:description']
    assert 50 < len(described['description']) < 160
    assert (described['og:type'], described['og:site_name']) == ('website', 'Visitors')


def test_a_screen_reader_finds_the_numbers_of_the_chart_in_a_table(visit: Visit, servers: dict[str, Server]) -> None:
    page = visit()
    table = page.get_by_role('table', name='Visitors of the last 30 days, day by day')
    assert table.get_by_role('columnheader').all_inner_texts() == ['Day', 'New', 'Returning', 'Visitors']
    expect(table.get_by_role('rowheader')).to_have_count(30)
    days = servers['usual'].statistics()['days']
    assert table.locator('tbody time').evaluate_all('all => all.map(each => each.dateTime)') == [
        day['day'] for day in days]
    assert [day_in_table(page, index)[:2] for index in range(30)] == [
        [day['visitors'], day['newcomers']] for day in days]


def test_a_screen_reader_hears_a_days_numbers_where_it_is_chosen(visit: Visit) -> None:
    page = visit()
    chosen = page.get_by_role('radio', checked=True)
    visitors, new, returning = day_in_table(page, 29)
    expect(chosen).to_have_accessible_name(re.compile(f'{visitors} visitors {new} new {returning} returning$'))
    assert page.get_by_role('group', name='Choose a day to see its numbers').get_by_role('radio').count() == 30


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('scheme', SCHEMES)
def test_no_accessibility_rule_is_broken(visit: Visit, scheme: str, width: int) -> None:
    page = visit(width=width, color_scheme=scheme)
    page.locator('.days label').nth(26).hover()
    expect(page.locator('.days label').nth(26).locator('.callout')).to_have_css('opacity', '1')
    page.evaluate(TRANSITIONS_ENDED)
    assert violations(page) == []


@pytest.mark.parametrize('scheme', SCHEMES)
def test_no_accessibility_rule_is_broken_where_nothing_is_found(visit: Visit, scheme: str) -> None:
    page = visit('/nowhere', width=320, color_scheme=scheme)
    expect(page.get_by_role('heading')).to_have_text('Not Found')
    expect(page.get_by_role('link', name='start page')).to_be_visible()
    assert page.evaluate('document.documentElement.scrollWidth') <= 320
    assert violations(page) == []


def test_the_page_is_dark_for_those_who_prefer_that(visit: Visit) -> None:
    assert min(visit(color_scheme='light').evaluate(BACKGROUND)) > 200
    assert max(visit(color_scheme='dark').evaluate(BACKGROUND)) < 60


@pytest.mark.parametrize('scheme', SCHEMES)
def test_with_the_systems_own_colours_the_parts_of_a_bar_differ(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme, forced_colors='active')
    paper = page.locator('.chart').first.evaluate('element => getComputedStyle(element).backgroundColor')
    parts = [page.locator(f'.bar .{part}').first.evaluate(FILL) for part in ('newcomers', 'returning')]
    assert len({paper, *parts}) == 3
    page.locator('.days input').nth(3).focus()
    assert page.locator(':focus').evaluate(OUTLINE)[0] == 'solid'
    assert violations(page) == []


def test_nothing_moves_for_those_who_prefer_that(visit: Visit) -> None:
    page = visit(reduced_motion='reduce')
    durations = page.locator('*').evaluate_all('all => all.map(each => getComputedStyle(each).transitionDuration)')
    assert set(durations) == {'0s'}


def test_the_printed_page_is_dark_on_white_and_leaves_out_how_to_point_at_the_chart(visit: Visit) -> None:
    page = visit(color_scheme='dark')
    page.emulate_media(media='print')
    assert min(page.evaluate(BACKGROUND)) > 200
    expect(page.locator('.days')).to_be_hidden()
    expect(page.locator('.hint')).to_be_hidden()
    expect(page.locator('.drawing').first).to_be_visible()


@pytest.mark.parametrize(('header', 'name'), [('Sec-GPC', 'Global Privacy Control'), ('DNT', 'Do Not Track')])
def test_a_browser_that_opts_out_reads_that_it_is_not_counted(
        visit: Visit, servers: dict[str, Server], header: str, name: str) -> None:
    page = visit(extra_http_headers={header: '1'})
    expect(page.get_by_role('heading', level=1)).to_have_text('This visit is not counted')
    expect(page.locator('.greeting')).to_contain_text(f'Your browser sends {name}')
    expect(page.locator('.total')).to_have_text(f'Total visitors: {servers["usual"].statistics()["total"]:,}')
    assert 'You have visited' not in page.content()


def test_a_visitor_reads_which_it_is_how_often_it_came_and_what_is_kept(
        visit: Visit, servers: dict[str, Server]) -> None:
    page = visit(extra_http_headers={'X-Forwarded-For': '192.0.2.77'})
    sentence = page.get_by_role('heading', level=1)
    total = f'{servers["usual"].statistics()["total"]:,}'
    expect(sentence).to_have_text(f'You are visitor {total}')
    expect(page.locator('.visits')).to_have_text('You have visited this page 1 time')
    expect(page.locator('.total')).to_have_text(f'Total visitors: {total}')
    page.reload()
    expect(sentence).to_have_text('You have visited this page 2 times')
    expect(page.locator('.stored')).to_contain_text('keyed hash of your network address')
    assert page.context.cookies() == []


def test_large_numbers_have_separators_and_a_short_axis(visit: Visit) -> None:
    page = visit(numbers='large')
    expect(page.locator('.tiles div').last).to_contain_text('12,345,6')
    ticks = page.locator('.plot').first.locator('.tick').all_text_contents()
    assert ticks == ['0', '100k', '200k', '300k', '400k', '500k']


def test_the_version_is_in_the_header_and_in_the_address_of_each_static_file(
        visit: Visit, servers: dict[str, Server]) -> None:
    page = visit()
    version = servers['usual'].get('/version').json()['version']
    expect(page.locator('header')).to_contain_text(version)
    addresses = page.locator('link, img').evaluate_all('all => all.map(each => each.href || each.src)')
    assert len(addresses) == 4
    assert all(address.endswith('?v=' + version.replace('+', '%2B')) for address in addresses)


def test_the_page_needs_no_script_and_no_style_of_its_own(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    expect(page.locator('.bar').first).to_be_visible()
    for selector in ('script', 'style', '[style]', '[onclick]'):
        expect(page.locator(selector)).to_have_count(0)
