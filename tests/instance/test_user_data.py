"""The template of the user data: a few lines that write instance.env and start the target."""

from pathlib import Path
import re
import stat
import subprocess

from instance import checks
from tests.support.server import ROOT
from tests.support.units import unit

TEMPLATE = (ROOT / 'instance/user-data.tftpl').read_text(encoding='utf-8')


def test_the_template_is_short_and_has_one_placeholder() -> None:
    assert re.findall(r'[$%]\{([^}]*)\}', TEMPLATE) == ['environment'], 'Terraform would replace the others as well'
    assert len(TEMPLATE.splitlines()) < 10


def test_the_script_writes_the_settings_unchanged_and_starts_the_target(tmp_path: Path) -> None:
    (tmp_path / 'etc').mkdir()
    settings = 'PARAMETER_PREFIX=/visitors/test\nAWS_REGION=a b\n# $HOME "quoted"'
    text = TEMPLATE.replace('${environment}', settings).replace('/etc/visitors', str(tmp_path / 'etc'))
    # The real script, with a systemctl that only records its arguments.
    programs = {'user-data': text, 'systemctl': f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n'}
    for name, program in programs.items():
        (tmp_path / name).write_text(program, encoding='utf-8')
        (tmp_path / name).chmod(0o755)
    subprocess.run([tmp_path / 'user-data'], env={'PATH': f'{tmp_path}:/usr/bin:/bin'}, check=True, umask=0o077)
    file = tmp_path / 'etc/instance.env'
    assert file.read_text() == f'{settings}\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert (tmp_path / 'arguments').read_text() == 'enable --now --no-block visitors.target\n'


def test_the_user_data_enables_the_target_that_the_self_test_expects() -> None:
    assert TEMPLATE.count(checks.TARGET) == 1
    folder, name = checks.ENABLED_BY_USER_DATA.parts[-2:]
    assert (folder, name) == (f'{unit(name).line("WantedBy")}.wants', 'visitors.target')
