"""The bill of materials: one document and one list from the lists of packages of all parts."""

import json
from pathlib import Path
import subprocess
import sys

from release.amis import PROJECT
from tests.support.server import ROOT

BILL = ROOT / 'packer/ansible/roles/inventory/files/bill.py'
VERSION = '1.0.2+build.41'
LISTS = """# machine
Package: bash
Status: install ok installed
Version: 5.2.37-2+b5
Architecture: amd64
Source: bash (5.2.37-2)

# image
Package: base-files
Status: install ok installed
Version: 13.8
Architecture: amd64

# python
Flask==3.1.3
"""


def write_bill(folder: Path, lists: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BILL), str(folder), VERSION]
    return subprocess.run(command, input=lists, capture_output=True, text=True, timeout=300, check=False)


def test_list_and_document_have_the_packages_of_each_part(tmp_path: Path) -> None:
    folder = tmp_path / 'new'
    result = write_bill(folder, LISTS)
    assert result.returncode == 0, result.stderr
    rows = (folder / 'packages.tsv').read_text(encoding='utf-8').splitlines()
    assert rows == ['machine\tbash\t5.2.37-2+b5', 'image\tbase-files\t13.8', 'python\tFlask\t3.1.3']
    document = json.loads((folder / 'sbom.cdx.json').read_text(encoding='utf-8'))
    assert (document['bomFormat'], document['specVersion']) == ('CycloneDX', '1.7')
    component = document['metadata']['component']
    assert component['version'] == VERSION
    assert PROJECT in component['name'], 'the bill has another name than the tag Project'
    assert {'pkg:deb/debian/bash@5.2.37-2%2Bb5?arch=amd64', 'pkg:deb/debian/bash@5.2.37-2?arch=source',
            'pkg:pypi/flask@3.1.3'} <= {each.get('purl') for each in document['components']}


def test_a_list_that_no_program_can_read_fails_without_a_result(tmp_path: Path) -> None:
    result = write_bill(tmp_path, '# machine\nthis is no list of packages at all\n')
    assert result.returncode != 0
    assert 'no bill of materials for the part machine' in result.stderr
    assert not list(tmp_path.glob('*.tsv'))
