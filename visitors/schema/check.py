"""The checks of revisions before they are merged: Alembic checks their order, squawk their SQL."""

from collections.abc import Iterator
import io
import json
from pathlib import Path
import shutil
import subprocess
import sysconfig
from typing import Any
import warnings

from alembic import command
from alembic.script import Script
from alembic.script.revision import RevisionError

from visitors.schema.errors import NotOneHead
from visitors.schema.revisions import CodeRevisions, in_order
from visitors.schema.upgrade import config_for, DIALECT

# Rules of squawk for changes on which older code can no longer run: such a revision names its floor.
CONTRACTS = frozenset({'ban-drop-column', 'ban-drop-table', 'ban-drop-database', 'changing-column-type',
                       'renaming-column', 'renaming-table', 'ban-truncate-cascade'})

# Rules of squawk that do not apply here, each with its reason; all others hold.
EXCLUDED = {
    'prefer-identity': 'Alembic writes SERIAL for an integer key, and only the original application has such a table',
    'prefer-text-field': 'the original application has a varchar(40); our own columns are text',
    'prefer-bigint-over-int': 'an integer is enough for the visitors of a day, and rows stay small',
    'prefer-bigint-over-smallint': 'a shard is a number below 18',
}


def findings(directory: Path) -> list[str]:
    """Return a sentence for each defect of the revisions in a migrations folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            revisions = CodeRevisions.load(directory)
            scripts = in_order(directory)
            assert revisions.head
    except (NotOneHead, RevisionError, KeyError, UserWarning) as error:
        return [f'the revisions are not one line: {error}']

    squawk = shutil.which('squawk', path=sysconfig.get_path('scripts')) or shutil.which('squawk')
    if not squawk:
        return ['squawk is missing, which checks the SQL: install requirements.test.txt']
    return [finding for script in scripts for finding in _findings_of(script, scripts, directory, squawk)]


def statements(directory: Path, script: Script) -> str:
    """Return the SQL of a revision on PostgreSQL."""
    output = io.StringIO()
    config = config_for(directory, **{DIALECT: 'postgresql'})
    config.output_buffer = output
    command.upgrade(config, f'{script.down_revision or "base"}:{script.revision}', sql=True)
    return output.getvalue()


def _findings_of(script: Script, scripts: list[Script], directory: Path, squawk: str) -> Iterator[str]:
    contracts = []
    for violation in _lint(statements(directory, script), squawk):
        rule = violation['rule_name']
        if rule in CONTRACTS:
            contracts.append(rule)
        else:
            yield f'{script.revision}: {rule}: {violation["message"]}'
    yield from _floor_findings(script, scripts, contracts)


def _floor_findings(script: Script, scripts: list[Script], contracts: list[str]) -> Iterator[str]:
    floor = getattr(script.module, 'min_code_revision', None)
    names = [other.revision for other in scripts]
    earlier = names[:names.index(script.revision)]
    if contracts and not floor:
        yield (f'{script.revision}: {", ".join(contracts)}: older code cannot run after it; name the oldest revision '
               'whose code still can as min_code_revision')
    if floor and floor not in earlier:
        yield f'{script.revision}: min_code_revision = {floor!r} is not an earlier revision'


def _lint(sql: str, squawk: str) -> list[dict[str, Any]]:
    arguments = [squawk, '--reporter', 'json', '--stdin-filepath', 'revision.sql']
    arguments += [f'--exclude={",".join(EXCLUDED)}'] if EXCLUDED else []
    result = subprocess.run(arguments, input=sql, capture_output=True, text=True, check=False)
    if not result.stdout.strip().startswith('['):
        raise RuntimeError(f'squawk ended with {result.returncode}: {result.stderr}')
    violations: list[dict[str, Any]] = json.loads(result.stdout)
    return violations
