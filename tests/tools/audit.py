"""Ask a database of known vulnerabilities about each pinned package; if it cannot be reached, say so and pass.

Exit codes: 0 no vulnerability is known, or the database could not be asked, which the last line says; 1 there are
vulnerabilities, or a file cannot be read; 2 wrong usage.
"""

import argparse
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import subprocess
import sys
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

DATABASE = 'https://api.osv.dev/v1/query'
# A package whose entry the database has, whatever it says of it.
QUESTION = json.dumps({'package': {'name': 'pip', 'ecosystem': 'PyPI'}, 'version': '1.0'}).encode()
PROBE_SECONDS, SECONDS = 4.0, 120.0


class Unreachable(Exception):
    """The database cannot be asked; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit files and return the exit code."""
    parser = argparse.ArgumentParser(prog='python -m tests.tools.audit', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', metavar='FILE', help='a file of pinned requirements with hashes')
    parser.add_argument('--database', default=DATABASE, metavar='URL', help='API in the form of OSV (%(default)s)')
    parser.add_argument('--seconds', type=float, default=SECONDS, help='longest time of the audit (%(default)s)')
    options = parser.parse_args(arguments)
    try:
        probe(options.database)
        vulnerable, count = audit(options.files, options.database, options.seconds)
    except Unreachable as error:
        print(f'NOT AUDITED: the database of vulnerabilities cannot be asked ({options.database}: {error}); run this '
              'again where it can be reached', file=sys.stderr)
        return 0
    for line in vulnerable:
        print(line)
    print(f'{count} packages audited, {len(vulnerable)} known vulnerabilities')
    return 1 if vulnerable else 0


def probe(database: str) -> None:
    """Return if the database answers a question, in seconds."""
    failures: list[object] = []
    # In a thread, because no time-out of a connection bounds the look-up of a name.
    thread = Thread(target=_ask, args=(database, failures), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():
        raise Unreachable(f'no answer within {PROBE_SECONDS:g} s')
    if failures:
        raise Unreachable(failures[0])


def _ask(database: str, failures: list[object]) -> None:
    try:
        request = Request(database, data=QUESTION, headers={'Content-Type': 'application/json'})
        with urlopen(request, timeout=PROBE_SECONDS) as answer:
            json.load(answer)
    except (URLError, OSError, ValueError) as error:
        failures.append(getattr(error, 'reason', error))


def audit(files: Sequence[str], database: str, seconds: float) -> tuple[list[str], int]:
    """Return a line for each known vulnerability, and the number of packages."""
    command = [str(Path(sys.executable).with_name('pip-audit')), '--vulnerability-service=osv',
               f'--osv-url={database}', '--disable-pip', '--require-hashes', '--format=json', '--progress-spinner=off',
               *(f'--requirement={file}' for file in files)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Unreachable(f'no verdict within {seconds:g} s') from None
    try:
        packages: list[dict[str, Any]] = json.loads(result.stdout)['dependencies']
    except ValueError:
        probe(database)  # it may be unreachable by now, which is no fault of the files
        sys.exit(f'pip-audit: {result.stderr.strip()}')
    return list(lines(packages)), len(packages)


def lines(packages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield each known vulnerability: the package, its name, and the versions that mend it."""
    for package in packages:
        for vulnerability in package.get('vulns', ()):
            mended = ', '.join(vulnerability['fix_versions']) or 'no version'
            yield f'{package["name"]}=={package["version"]}: {vulnerability["id"]}, mended by {mended}'


if __name__ == '__main__':
    sys.exit(main())
