"""The role of an instance allows exactly the calls of its steps."""

from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import pytest

from instance import lifecycle
from rehearsal.api.permissions.enforcement import Use
from rehearsal.api.permissions.principals import instance_key
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.settings import ROLE_CREDENTIALS
from tests.support.instance_role import instance_statements
from tests.support.launched_group import GROUP, LaunchedGroup
from tests.support.machine_folder import FolderMachine, machine_in, PREFIX
from tests.support.made_up_application import Application
from tests.support.parameters import KEY, OWNER_PASSWORD, put_settings
from tests.support.waiting import eventually
from tests.support.written_journal import WrittenJournal

ROLE = 'visitors-test-instance'
NO_KEYS = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': ''}
URL = 'postgresql://visitors@database/visitors'


def actions_of(statement: dict[str, Any]) -> list[str]:
    action = statement['Action']
    return [action] if isinstance(action, str) else list(action)


# Each action of each statement, and each resource of a statement with several.
PERMISSIONS = [(str(statement['Sid']), action) for statement in instance_statements()
               for action in actions_of(statement)]
# In `make test`; the others are in `make drill`.
SAMPLE = PERMISSIONS[::5]
REMOVED = [permission if permission in SAMPLE else pytest.param(*permission, marks=pytest.mark.drill)
           for permission in PERMISSIONS]


class Life:
    """The life of an instance with a policy: it boots, serves, sends its logs, and fails at last."""

    def __init__(self, aws: EmbeddedRehearsal, machine: FolderMachine, application: Application) -> None:
        """Make the installation, whose group launches the instance."""
        self.aws, self.machine = aws, machine
        self.secrets = {name: str(aws.client('secretsmanager').create_secret(Name=name, SecretString=text)['ARN'])
                        for name, text in (('rds!db-1', OWNER_PASSWORD), ('visitors/test/visitor-key', KEY))}
        put_settings(aws, DATABASE_URL=URL, MIGRATION_DATABASE_URL=URL, PORT=str(application.port))
        for name, secret in zip(('MIGRATION_DATABASE_PASSWORD', 'VISITOR_KEY'), self.secrets.values(), strict=True):
            aws.client('ssm').put_parameter(Name=f'{PREFIX}/secrets/{name}', Value=secret, Type='String')
        aws.client('logs').create_log_group(logGroupName=PREFIX)
        self.group = LaunchedGroup(aws, machine)
        machine.give_role(ROLE)

    @property
    def statements(self) -> list[dict[str, Any]]:
        """The statements of terraform/, for this installation."""
        owner, key = self.secrets.values()
        return instance_statements(owner_secret=owner, visitor_key=key, group=f'autoScalingGroupName/{GROUP}',
                                   region=f':{self.aws.region}:')

    def uses(self, statements: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[Use]:
        """Return the decisions about the calls of a life with these statements."""
        self.aws.client('iam').put_role_policy(
            RoleName=ROLE, PolicyName='boot-and-serve',
            PolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': statements}))
        entered = self.machine.enter(monkeypatch)
        for name, value in NO_KEYS.items():
            monkeypatch.setenv(name, value)
        if self.machine.run('config', **NO_KEYS).returncode == 0:
            beat = lifecycle.heartbeat_of(entered, self.machine.instance)
            assert beat
            with lifecycle.heartbeats(beat):
                eventually(lambda: self._has_asked_for('autoscaling:RecordLifecycleActionHeartbeat', 'autoscaling:'),
                           'the instance sends a heartbeat or is refused')
            self.sign_in()
            self.machine.run('ready', **NO_KEYS)
            self.send_logs()
        self.machine.run('failed', **NO_KEYS)
        return [use for use in self.aws.permissions.uses if use.principal == ROLE]

    def sign_in(self) -> None:
        """Ask as the database does when the application signs in by a token."""
        database = [each for each in self.statements if each['Sid'] == 'SignInToDatabase'][0]['Resource']
        key, token = instance_key(self.machine.instance), ROLE_CREDENTIALS['Token']
        self.aws.permissions.allows(key, token, 'rds-db:connect', database)

    def send_logs(self) -> None:
        """Send an entry of the journal, or be refused."""
        with WrittenJournal(self.machine.programs / 'journal') as journal:
            self.machine.install('journalctl', f'exec /usr/bin/journalctl --directory={journal.folder} "$@"')
            journal.write('an entry')
            with self.machine.start('logs', **NO_KEYS) as process:
                try:
                    eventually(lambda: self._has_asked_for('logs:PutLogEvents', 'logs:'),
                               'the entry is sent or refused')
                finally:
                    process.kill()

    def _has_asked_for(self, action: str, prefix: str) -> bool:
        """Return whether an action was decided, or another one with a prefix was refused before it."""
        uses = list(self.aws.permissions.uses)
        return any(use.question.action == action or self._is_refused(use, prefix) for use in uses)

    @staticmethod
    def _is_refused(use: Use, prefix: str) -> bool:
        return not use.decision.is_allowed and use.question.action.startswith(prefix)


@pytest.fixture
def life(tmp_path: Path, aws: EmbeddedRehearsal) -> Any:
    application = Application()
    with machine_in(tmp_path, aws) as machine:
        yield Life(aws, machine, application)
    application.end()


def test_a_boot_with_the_policy_of_terraform_is_refused_nothing_and_uses_every_action_and_resource(
        life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = life.uses(life.statements, monkeypatch)
    assert [use for use in uses if not use.decision.is_allowed] == []
    assert {(use.decision.statement, use.question.action) for use in uses} == set(PERMISSIONS)
    for statement in life.statements:
        patterns = statement['Resource'] if isinstance(statement['Resource'], list) else [statement['Resource']]
        asked = {use.question.resource for use in uses if use.decision.statement == statement['Sid']}
        if len(patterns) > 1:
            assert asked == set(patterns), f'{statement["Sid"]} names a resource that no step uses'
    assert not life.aws.gaps


@pytest.mark.parametrize(('statement', 'action'), REMOVED)
def test_without_one_action_of_the_policy_a_step_is_refused_it(
        life: Life, monkeypatch: pytest.MonkeyPatch, statement: str, action: str) -> None:
    left = [{**each, 'Action': [other for other in actions_of(each) if (each['Sid'], other) != (statement, action)]}
            for each in life.statements]
    uses = life.uses([each for each in left if each['Action']], monkeypatch)
    refused = {replace(use.question, context={}, resource='*').action for use in uses if not use.decision.is_allowed}
    assert refused == {action}
