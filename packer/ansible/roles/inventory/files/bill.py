"""Write what is in an image into FOLDER, as packages.tsv and sbom.cdx.json, from lists of packages on standard input.

The lists follow each other, each below a line `# PART`. A list is what dpkg knows of its packages, and for the part
`python` lines of NAME==VERSION.
"""

import argparse
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile

# Both come with the Python that runs this: packer/ansible/requirements.in.
PROGRAMS = Path(sys.executable).parent
PYTHON = 'python'
PROJECT = f'[project]\nname = "{PYTHON}"\nversion = "0"\n'
# The version that debsbom's merge writes, whatever it is told.
SCHEMA = '1.7'
SECONDS = 120


def main() -> None:
    """Read the lists and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='where the files go')
    parser.add_argument('version', metavar='VERSION', help='the version of the image')
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        bills = write_bills(Path(name), split(sys.stdin.read()))
        merge = [str(PROGRAMS / 'debsbom'), 'merge', '--sbom-type=cdx', '--distro-name=visitors',
                 f'--distro-version={options.version}', f'--out={options.folder / "sbom"}', *map(str, bills)]
        subprocess.run(merge, check=True, timeout=SECONDS)
        rows = [row for bill in bills for row in packages(bill)]
    (options.folder / 'packages.tsv').write_text(''.join(f'{row}\n' for row in rows), encoding='utf-8')


def split(text: str) -> dict[str, str]:
    """Return each list by the name of its part."""
    _, *found = re.split(r'^# ([a-z]+)\n', text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2]))


def write_bills(folder: Path, lists: dict[str, str]) -> list[Path]:
    """Return the files with the bill of materials of each part, all of them written at the same time."""
    (folder / 'project.toml').write_text(PROJECT, encoding='utf-8')
    running = {}
    for part, listed in lists.items():
        (folder / part).write_text(listed, encoding='utf-8')
        with (folder / part).open(encoding='utf-8') as given:
            running[part] = subprocess.Popen(command(part, folder), stdin=given)
    for part, process in running.items():
        if process.wait(SECONDS):
            sys.exit(f'the bill of the part {part} could not be made: {command(part, folder)[0]} ended with '
                     f'{process.returncode}')
    return [bill_of(part, folder) for part in lists]


def bill_of(part: str, folder: Path) -> Path:
    """Return the file with the bill of materials of a part."""
    return folder / f'{part}.cdx.json'


def command(part: str, folder: Path) -> Sequence[str]:
    """Return the command that makes the bill of materials of a part from the list on its standard input."""
    if part == PYTHON:
        return (str(PROGRAMS / 'cyclonedx-py'), 'requirements', f'--spec-version={SCHEMA}',
                f'--pyproject={folder / "project.toml"}', f'--output-file={bill_of(part, folder)}', '-')
    return (str(PROGRAMS / 'debsbom'), 'generate', '--sbom-type=cdx', f'--cdx-schema-version={SCHEMA}',
            '--from-pkglist', f'--root={folder}', '--distro-arch=amd64', f'--distro-name={part}',
            f'--out={folder / part}')


def packages(bill: Path) -> Iterator[str]:
    """Yield part, name and version of each package; Debian's sources are in the bill only."""
    for component in json.loads(bill.read_text(encoding='utf-8'))['components']:
        package = component.get('purl', '')
        if package and 'arch=source' not in package:
            yield '\t'.join((bill.name.partition('.')[0], component['name'], component['version']))


if __name__ == '__main__':
    main()
