"""Write the bill of materials of an AMI to FOLDER, as packages.tsv and sbom.cdx.json.

Standard input has one list of packages for each part of the AMI, below a line `# PART`. A list has the format of
dpkg's status file, or lines of NAME==VERSION for the part `python`.
"""

import argparse
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile

# The folder of debsbom and cyclonedx-py, which packer/ansible/requirements.in installs beside this Python.
PROGRAMS = Path(sys.executable).parent
PYTHON = 'python'
PROJECT = f'[project]\nname = "{PYTHON}"\nversion = "0"\n'
# The version of CycloneDX that `debsbom merge` always writes.
SCHEMA = '1.7'
SECONDS = 120


def main() -> None:
    """Read the lists and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='folder for the files')
    parser.add_argument('version', metavar='VERSION', help='version of the AMI')
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
    """Return the list of each part."""
    _, *fields = re.split(r'^# ([a-z]+)\n', text, flags=re.MULTILINE)
    return dict(zip(fields[::2], fields[1::2]))


def write_bills(folder: Path, lists: dict[str, str]) -> list[Path]:
    """Write the bill of materials of each part, all at the same time, and return the files."""
    (folder / 'project.toml').write_text(PROJECT, encoding='utf-8')
    processes = {}
    for part, packages_of_part in lists.items():
        (folder / part).write_text(packages_of_part, encoding='utf-8')
        with (folder / part).open(encoding='utf-8') as file:
            processes[part] = subprocess.Popen(command(part, folder), stdin=file)
    for part, process in processes.items():
        if process.wait(SECONDS):
            sys.exit(f'no bill of materials for the part {part}: {command(part, folder)[0]} ended with '
                     f'{process.returncode}')
    return [bill_of(part, folder) for part in lists]


def bill_of(part: str, folder: Path) -> Path:
    """Return the file for the bill of materials of a part."""
    return folder / f'{part}.cdx.json'


def command(part: str, folder: Path) -> Sequence[str]:
    """Return the command that converts the list on its standard input to the bill of materials of a part."""
    if part == PYTHON:
        return (str(PROGRAMS / 'cyclonedx-py'), 'requirements', f'--spec-version={SCHEMA}',
                f'--pyproject={folder / "project.toml"}', f'--output-file={bill_of(part, folder)}', '-')
    return (str(PROGRAMS / 'debsbom'), 'generate', '--sbom-type=cdx', f'--cdx-schema-version={SCHEMA}',
            '--from-pkglist', f'--root={folder}', '--distro-arch=amd64', f'--distro-name={part}',
            f'--out={folder / part}')


def packages(bill: Path) -> Iterator[str]:
    """Yield part, name and version of each package, without Debian's source packages, which only the bill has."""
    for component in json.loads(bill.read_text(encoding='utf-8'))['components']:
        package = component.get('purl', '')
        if package and 'arch=source' not in package:
            yield '\t'.join((bill.name.partition('.')[0], component['name'], component['version']))


if __name__ == '__main__':
    main()
