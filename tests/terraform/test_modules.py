"""The promises between the stack in terraform/ and the rest of the project."""

import json
import os
from pathlib import Path
import re

from app import create_app
from instance import failed, parameters
from instance.boot_record import Failure
from instance.usage import dimensions_of, usage
from instance.user_data import NAMES, UserData
from tests.support.server import bring_up, json_lines, ROOT, Server
from tests.support.waiting import eventually
from visitors.settings import Settings as ApplicationSettings

TERRAFORM = ROOT / 'terraform'
RUNBOOKS = ROOT / 'docs' / 'runbooks'
HEADINGS = ['Meaning', 'Impact', 'Diagnosis', 'Mitigation']


def text_of(name: str) -> str:
    return (TERRAFORM / name).read_text(encoding='utf-8')


def block(text: str, opening: str) -> str:
    """Return the lines between an opening and the first bracket that closes it at the opening's own depth."""
    start = text.index(opening)
    indent = re.findall(r'[ ]*$', text[:start])[0]
    end = re.compile(rf'^{indent}[\])}}]', re.MULTILINE).search(text, start)
    assert end, f'{opening} has no end'
    return text[start:end.start()]


def alarms() -> set[str]:
    """Return the names of all alarms and notifications, without the installation's name."""
    monitoring = block(text_of('modules/monitoring/alarms.tf'), 'alarms = {')
    named = set(re.findall(r'^    ([a-z-]+) = \{$', monitoring, re.MULTILINE))
    for file in ('monitoring/alarms.tf', 'monitoring/notifications.tf', 'edge/health-check.tf'):
        named |= set(re.findall(r'docs/runbooks/([a-z-]+)\.md"', text_of(f'modules/{file}')))
    return named


def test_every_alarm_has_its_runbook_and_every_runbook_its_alarm() -> None:
    assert len(alarms()) > 10, 'this test looks in the wrong place'
    assert {path.stem for path in RUNBOOKS.glob('*.md')} == alarms()


def test_every_runbook_has_the_four_headings() -> None:
    for path in RUNBOOKS.glob('*.md'):
        assert re.findall('^## (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE) == HEADINGS, path.name


def test_the_parameters_of_the_stack_are_what_an_instance_reads() -> None:
    source = text_of('modules/service/settings.tf')
    settings = dict(re.findall(r'^    ([A-Z_]+) += (.+?)(?: #.*)?$', block(source, 'settings = merge('), re.MULTILINE))
    secrets = re.findall(r'^    ([A-Z_]+) +=', block(source, 'secrets = {'), re.MULTILINE)
    (tls,) = re.findall(r'^  database_tls = "(.*)"$', source, re.MULTILINE)
    url = f'postgresql://visitors_app@database.example:5432/visitors?{tls}'
    values = {**{name: '1' for name in settings}, **{name: url for name in parameters.URLS}, 'PURGE_OLDER_THAN': '365'}
    folders = {role: ROOT for role in ('application', 'migration', 'requests')}
    plan = parameters.plan('/visitors/test', values, {name: f'arn:{name}' for name in secrets}, {}, folders,
                           has_authorities=True)
    assert set(parameters.URLS) <= settings.keys(), 'this test looks in the wrong place'
    assert plan.token_for, 'the application would have neither a password nor a token'


def test_the_user_data_of_the_stack_are_what_an_instance_takes() -> None:
    environment = block(text_of('modules/service/launch-template.tf'), 'instance_environment = merge(')
    named = re.findall(r'^    ([A-Z_]+) +=', environment, re.MULTILINE)
    assert set(named) == set(NAMES) - {'SELFTEST'}
    lines = [f'{name}={"/x" if name == "PARAMETER_PREFIX" else "eu-central-1"}' for name in named]
    assert UserData.from_text('\n'.join(lines)).region == 'eu-central-1'


def test_the_role_of_an_instance_allows_what_the_document_lists() -> None:
    policy = block(text_of('modules/service/permissions.tf'), 'resource "aws_iam_role_policy" "instance"')
    granted = set(re.findall(r'"([a-z-]+:[A-Za-z]+)"', policy)) - {'cloudwatch:namespace'}  # a condition's key
    document = (ROOT / 'docs' / 'instance.md').read_text(encoding='utf-8').partition('## Permissions')[2]
    listed = set(re.findall(r'`([a-z-]+:[A-Za-z]+)`', document))
    assert len(listed) > 8, 'this test looks in the wrong place'
    assert granted == listed


def test_the_metrics_of_the_alarms_are_those_that_an_instance_sends() -> None:
    monitoring = text_of('modules/monitoring/alarms.tf')
    named = set(re.findall(r'namespace   = "Visitors", metric = "(\w+)", dimensions = local.group', monitoring))
    failures = {failed.metric_of(Failure('migrate', code, '')) for code in (1, *failed.MIGRATION_CODES)}
    sent = usage('MemTotal: 2 kB\nMemAvailable: 1 kB\n', os.statvfs('/'))
    assert named == {*failures, *sent}
    group = UserData(auto_scaling_group='visitors-test')
    assert {'AutoScalingGroupName': 'visitors-test'} in failed.dimensions_of(group)
    assert dimensions_of(group) == {'AutoScalingGroupName': 'visitors-test'}


def test_the_metric_filters_read_the_fields_of_the_servers_log(sqlite_url: str) -> None:
    patterns = dict(re.findall(r'"aws_cloudwatch_log_metric_filter" "(\w+)" {.*?pattern +=( "\{ [^\n]* }")$',
                               text_of('modules/monitoring/dashboard.tf'), re.MULTILINE | re.DOTALL))
    terms = {name: terms_of(pattern) for name, pattern in patterns.items()}
    assert terms.keys() == {'page_views', 'in_advance'}
    with Server(bring_up(sqlite_url)) as server:
        server.get('/')
        server.get('/', Sec_Purpose='prefetch')

        def matching(name: str) -> list[int]:
            return [line['status'] for line in json_lines(server.stdout())
                    if {field: json.dumps(line.get(field)) for field in terms[name]} == terms[name]]
        for name, status in (('page_views', 200), ('in_advance', 503)):
            eventually(lambda: matching(name) == [status], lambda: f'one line matches {terms}: {server.stdout()}')


def terms_of(pattern: str) -> dict[str, str]:
    """Return the values in JSON that a pattern of a metric filter demands, by field."""
    return dict(re.findall(r'\$\.(\w+) = (\S+)', pattern.replace('\\"', '"').replace(' IS TRUE', ' = true')))


def test_every_exception_from_a_check_of_security_has_a_reason() -> None:
    skips = [line for path in TERRAFORM.rglob('*.tf') if '.terraform' not in path.parts
             for line in path.read_text(encoding='utf-8').splitlines() if 'checkov:skip' in line]
    assert len(skips) > 20, 'this test looks in the wrong place'
    assert [line for line in skips if not re.fullmatch(r'  # checkov:skip=CKV2?_AWS_\d+: [a-zA-Z].{10,}', line)] == []


def test_port_and_health_check_are_the_applications() -> None:
    assert f'application_port = {parameters.PORT}\n' in text_of('modules/service/launch-template.tf')
    health = (ROOT / 'visitors' / 'health.py').read_text(encoding='utf-8')
    (target,) = re.findall(r'path += "(/\w+)"', text_of('modules/service/load-balancer.tf'))
    (page,) = re.findall(r'resource_path += "(/\w+)"', text_of('modules/edge/health-check.tf'))
    served = re.findall(r"^@health\.get\('(.*)'\)", health, re.MULTILINE)
    assert {target, page} <= set(served)


def test_the_load_balancer_lets_go_of_a_connection_before_gunicorn_does() -> None:
    (idle,) = re.findall(r'idle_timeout += (\d+)', text_of('modules/service/load-balancer.tf'))
    (kept,) = re.findall(r'^keepalive = (\d+)', (ROOT / 'gunicorn.conf.py').read_text(encoding='utf-8'), re.MULTILINE)
    assert int(idle) < int(kept)


def test_every_variable_of_the_stack_is_described_and_every_value_of_an_environment_is_a_variable() -> None:
    variables = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text_of('variables.tf'), re.MULTILINE | re.DOTALL))
    assert [name for name, body in variables.items() if 'description' not in body] == []
    for path in (TERRAFORM / 'environments').glob('*.tfvars'):
        named = set(re.findall(r'^(\w+) +=', path.read_text(encoding='utf-8'), re.MULTILINE))
        needed = {name for name, body in variables.items() if not re.search(r'^  default', body, re.MULTILINE)}
        assert named <= variables.keys(), path.name
        assert needed - {'ami_id', 'deploy_number'} <= named, path.name


def test_route_53_finds_its_text_in_the_answer_of_a_ready_application(sqlite_url: str, tmp_path: Path) -> None:
    (text,) = re.findall(r'default += "(.*)"$', block(text_of('modules/edge/variables.tf'), 'variable "ready_text"'),
                         re.MULTILINE)
    settings = ApplicationSettings.from_environ({'DATABASE_URL': bring_up(sqlite_url)}, tmp_path)
    answer = create_app(settings).test_client().get('/readyz')
    assert answer.status_code == 200
    assert text.replace('\\"', '"') in answer.text[:5120], 'Route 53 looks at the first 5120 bytes only'
