"""The difference between two AMIs by the files beside them, and the deny list."""

from collections.abc import Mapping
import json
from pathlib import Path

import pytest

from tests.support.account import Account
from tests.support.checkout import Checkout

BEFORE, AFTER = '1.0.2+build.41', '1.0.3+build.45'


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout of the release tool."""
    return Checkout(tmp_path, account)


def bill(*sources: str) -> str:
    return json.dumps({'components': [
        {'type': 'operating-system', 'name': 'debian', 'version': '13'},
        {'type': 'library', 'name': 'openssl', 'version': '3.5.1', 'purl': 'pkg:deb/debian/openssl@3.5.1?arch=amd64'},
        *({'type': 'library', 'name': name, 'version': '1', 'purl': f'pkg:deb/debian/{name}@1?arch=source'}
          for name in sources)]})


def keep(checkout: Checkout, ami: str, packages: Mapping[str, str], inputs: Mapping[str, str],
         sources: str = '') -> None:
    """Store the files beside an AMI."""
    folder = checkout.root / 'build' / 'artefacts' / ami
    folder.mkdir(parents=True)
    rows = [f'{name.replace("/", chr(9))}\t{version}' for name, version in packages.items()]
    (folder / 'packages.tsv').write_text('\n'.join(rows) + '\n', encoding='utf-8')
    (folder / 'sbom.cdx.json').write_text(bill(*sources.split()), encoding='utf-8')
    (folder / 'inputs.json').write_text(json.dumps(dict(inputs)), encoding='utf-8')


@pytest.fixture
def amis(checkout: Checkout, account: Account) -> tuple[str, str]:
    """Give two releases with their bases, of which a group runs the first."""
    bases = [account.add_ami(f'base-{number}', 9, Stage='base', InputHash=f'{number:016}') for number in (1, 2)]
    before, after = account.add_ami('1', 2, Version=BEFORE), account.add_ami('2', 1, Version=AFTER, Engine='26')
    for number, base in enumerate(bases):
        keep(checkout, base, {}, {'source-ami': f'ami-{number}', 'packer/ansible/roles/hardening/a': '100644 a'})
    keep(checkout, before, {'machine/openssl': '3.5.1', 'machine/auditd': '4', 'python/flask': '3.1.3'},
         {'base': f'{1:016}', 'image': 'sha256:1', 'instance/ready.py': 'x', 'packer/ansible/app.yml': 'y'}, 'acl')
    keep(checkout, after, {'machine/openssl': '3.5.2', 'machine/zstd': '1', 'python/flask': '3.1.3'},
         {'base': f'{2:016}', 'image': 'sha256:2', 'instance/ready.py': 'z', 'packer/ansible/app.yml': 'y'},
         'acl zstd')
    account.run_in_a_group(before)
    return before, after


def test_each_part_of_the_difference_is_shown(checkout: Checkout, account: Account, amis: tuple[str, str]) -> None:
    result = checkout.release('diff')
    assert result.code == 0, result
    assert result.out.splitlines() == [
        f'from {amis[0]} ({BEFORE})', f'to   {amis[1]} ({AFTER})',
        'package: 3 changed', '  removed  machine/auditd  4', '  changed  machine/openssl  3.5.1 -> 3.5.2',
        '  added    machine/zstd  1',
        'component: 1 changed', '  added    library/zstd  1',
        'configuration: 1 changed', '  changed  source-ami  ami-0 -> ami-1',
        'application: 4 changed', '  added    engine  26', '  changed  image  sha256:1 -> sha256:2',
        '  changed  instance/ready.py  x -> z', f'  changed  version  {BEFORE} -> {AFTER}']


def test_versions_and_ids_name_the_amis_and_json_is_for_programs(checkout: Checkout, amis: tuple[str, str]) -> None:
    by_version = json.loads(checkout.release('diff', AFTER, BEFORE, '--json').out)
    by_id = json.loads(checkout.release('diff', amis[1], amis[0], '--json').out)
    assert by_version == by_id and (by_id['before'], by_id['after']) == (amis[1], amis[0])
    added = {'part': 'package', 'name': 'machine/auditd', 'kind': 'added', 'before': '', 'after': '4'}
    assert added in by_id['changes']
    same = checkout.release('diff', BEFORE, BEFORE)
    assert (same.code, '0 changed' in same.out, '1 changed' in same.out) == (0, True, False)


@pytest.mark.parametrize(('pattern', 'code'), [
    ('package removed machine/auditd', 8), ('package * machine/openssl 3.5.1 -> *', 8), ('configuration changed *', 8),
    ('# package removed *', 0), ('package removed python/*', 0), ('component removed *', 0)])
def test_a_deny_list_fails_on_a_change_that_it_names(checkout: Checkout, amis: tuple[str, str], pattern: str,
                                                     code: int) -> None:
    checkout.write('deny.txt', f'{pattern}\n\n')
    result = checkout.release('diff', '--deny', 'deny.txt')
    assert (result.code, 'refused: ' in result.out) == (code, code == 8), result
    assert f'to   {amis[1]}' in result.out, 'the difference is printed in any case'


def test_a_missing_file_is_named_and_a_deny_list_does_not_pass_without_it(checkout: Checkout,
                                                                          amis: tuple[str, str]) -> None:
    (checkout.root / 'build' / 'artefacts' / amis[0] / 'packages.tsv').unlink()
    assert f'not compared: packages.tsv, which {amis[0]} lacks' in checkout.release('diff').out
    checkout.write('deny.txt', 'package removed *\n')
    assert checkout.release('diff', '--deny', 'deny.txt').code == 3
    assert checkout.release('diff', '--deny', 'absent.txt').code == 3


def test_without_a_running_or_a_released_ami_both_must_be_named(checkout: Checkout, account: Account) -> None:
    result = checkout.release('diff')
    assert (result.code, 'so name both' in result.err) == (3, True), result
    unreleased = account.add_ami('1', Version=BEFORE, Released='false')
    assert 'no released AMI of the version' in checkout.release('diff', BEFORE, unreleased).err
    assert checkout.release('diff', 'newest').code == 2
