"""A database that looks as if people had come for months, and the README's pictures of the page made from it.

Take the pictures again, into docs/, and the icons in static/ that are not drawings, with:
.venv/bin/python -m tests.tools.demonstration
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
import random
import struct
import tempfile

from playwright.sync_api import Browser, sync_playwright, ViewportSize
from sqlalchemy import Engine

from app import create_app
from tests.support.server import bring_up, BROWSER, environment, ROOT, Server, today
from tests.tools.packages import program
from visitors.counting import Counter
from visitors.models import db
from visitors.settings import Settings

PICTURES = {'light': ROOT / 'docs' / 'screenshot.png', 'dark': ROOT / 'docs' / 'screenshot-dark.png'}
ICON = ROOT / 'static' / 'favicon.svg'
TOUCH_ICON, FAVICON = ROOT / 'static' / 'touch-icon.png', ROOT / 'static' / 'favicon.ico'
TOUCH_ICON_SIZE, FAVICON_SIZE = 180, 32
WINDOW: ViewportSize = {'width': 1400, 'height': 900}
DAYS = 120
YEAR = 400  # days, so that the chart of weeks in the pictures is full
WEEKEND = 5
CHROMIUMS = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM_FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                  '--disable-background-networking', '--disable-component-update', '--disable-sync']


def fill(url: str, last: date, days: int = DAYS) -> None:
    """Let visitors come to an application's empty database, on each of so many days up to the last.

    Each is counted by the application itself; only the calendar is not the real one.
    """
    app = create_app(Settings.from_environ(environment(url)))
    with app.app_context():
        for day, visitors in _visitors_by_day(last, days):
            _count(db.engine, day, visitors)
        db.engine.dispose()


def _count(engine: Engine, day: date, visitors: Iterable[bytes]) -> None:
    counter = Counter(engine, clock=lambda: day)
    for visitor in visitors:
        counter.visit(visitor)


def _visitors_by_day(last: date, days: int) -> Iterator[tuple[date, list[bytes]]]:
    chance = random.Random(1815)
    known: list[bytes] = []
    for index in range(days):
        day = last - timedelta(days - 1 - index)
        crowd = (30 + 108 * index / days) * chance.uniform(0.8, 1.25) * (0.55 if day.weekday() >= WEEKEND else 1)
        returning = chance.sample(known, min(len(known), int(crowd * chance.uniform(0.5, 0.75))))
        newcomers = [chance.randbytes(16) for _ in range(int(crowd) - len(returning))]
        known += newcomers
        yield day, returning + newcomers


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a running Chromium that connects only to the pages it is sent to."""
    path = next(filter(None, map(program, CHROMIUMS)), None)
    if not path:
        raise RuntimeError('chromium is not installed; do it with: apt-get install chromium')

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def take_pictures() -> None:
    """Write the pictures of the page in light and in dark."""
    with tempfile.TemporaryDirectory() as folder:
        url = bring_up(f'sqlite:///{Path(folder) / "visitors.sqlite3"}')
        fill(url, today(), YEAR)
        with Server(url, USER_NAME='Ada Lovelace', USER_URL='https://example.org/') as server, chromium() as browser:
            for _ in range(10):
                server.visits()
            for scheme, path in PICTURES.items():
                _take_picture(browser, server.address, scheme, path)


def _take_picture(browser: Browser, address: str, scheme: str, path: Path) -> None:
    page = browser.new_page(
        color_scheme='dark' if scheme == 'dark' else 'light', user_agent=BROWSER, viewport=WINDOW)
    page.goto(address)
    page.locator('.days label').nth(-4).hover()
    page.wait_for_timeout(300)
    page.screenshot(path=path, full_page=True)
    page.close()


def draw_icons() -> None:
    """Draw the icons for programs without SVG: /favicon.ico, and one without corners for phones' home screens."""
    with chromium() as browser:
        drawing = ICON.read_text(encoding='utf-8')
        TOUCH_ICON.write_bytes(_drawn(browser, drawing.replace('rx="8"', ''), TOUCH_ICON_SIZE))
        picture = _drawn(browser, drawing, FAVICON_SIZE)
    # A directory of one picture, which begins behind it.
    directory = struct.pack('<3H4B2H2I', 0, 1, 1, FAVICON_SIZE, FAVICON_SIZE, 0, 0, 1, 32, len(picture), 22)
    FAVICON.write_bytes(directory + picture)


def _drawn(browser: Browser, drawing: str, size: int) -> bytes:
    page = browser.new_page(viewport={'width': size, 'height': size})
    page.set_content(f'<style>body {{ margin: 0 }} svg {{ display: block }}</style>{drawing}')
    picture = page.screenshot(omit_background=True)
    page.close()
    return picture


if __name__ == '__main__':
    draw_icons()
    take_pictures()
