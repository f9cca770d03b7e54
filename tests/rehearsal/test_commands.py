"""python -m rehearsal: its verbs, their output and exit codes, and the document that names all of them."""

from collections.abc import Iterator
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid

import boto3
import psutil
import pytest

from rehearsal.__main__ import main
from rehearsal.client import NotUp, Rehearsal
from rehearsal.errors import RehearsalError
from rehearsal.folder import root
from rehearsal.naming import Names
from rehearsal.settings import Settings
from tests.support.instances import launch
from tests.support.server import ROOT
from tests.support.waiting import eventually

VERBS = ('up', 'down', 'status', 'shell', 'run', 'console', 'mail', 'gaps')
DOCUMENT = ROOT / 'docs' / 'rehearsal.md'


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-m', 'rehearsal', *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)


@pytest.fixture
def name() -> Iterator[str]:
    """Give a name for a rehearsal, which is down afterwards."""
    rehearsal = f'c-{uuid.uuid4().hex[:8]}'
    yield rehearsal
    main(['down', '--name', rehearsal])


@pytest.fixture
def up(name: str) -> Rehearsal:
    """Give a rehearsal without machines that was brought up to stay."""
    assert main(['up', '--name', name, '--no-machines']) == 0
    return Rehearsal(Settings(name))


def exports(printed: str) -> dict[str, str]:
    """Return the variables of a shell that evaluates the output of `up`."""
    output = subprocess.run(['sh', '-c', f'{printed}\nenv --null'], capture_output=True, text=True, check=True).stdout
    return dict(line.split('=', 1) for line in output.split('\0') if '=' in line)


def test_up_prints_exports_that_point_aws_own_library_to_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = command('up', '--name', name, '--no-machines', '--region', 'eu-central-1')
    assert result.returncode == 0, result.stderr
    for variable, value in exports(result.stdout).items():
        if variable.startswith('AWS_'):
            monkeypatch.setenv(variable, value)
    ec2 = boto3.client('ec2')
    assert ec2.meta.region_name == 'eu-central-1'
    assert [zone['RegionName'] for zone in ec2.describe_availability_zones()['AvailabilityZones']][0] == 'eu-central-1'
    assert ec2.describe_images(Owners=['136693071363'])['Images']


def test_up_prints_each_phase_and_its_seconds_to_stderr(name: str) -> None:
    result = command('up', '--name', name, '--no-machines')
    assert re.search(r'^ +[0-9.]+ s  start the API\n', result.stderr, re.MULTILINE), result.stderr
    assert re.search(r'^ +[0-9.]+ s  start the API: took [0-9.]+ s\n', result.stderr, re.MULTILINE), result.stderr
    assert all(line.startswith('export ') for line in result.stdout.splitlines())


def test_the_release_tool_finds_all_uses_of_an_image_here_without_a_gap(name: str, up: Rehearsal) -> None:
    ec2 = up.client('ec2')
    instance = launch(up)
    image = ec2.create_image(InstanceId=instance.name, Name='visitors-app', TagSpecifications=[
        {'ResourceType': 'image', 'Tags': [{'Key': 'Project', 'Value': 'visitors'}]}])['ImageId']
    data = {'ImageId': image, 'InstanceType': 't3.small'}
    ec2.create_launch_template(LaunchTemplateName='idle', LaunchTemplateData=data)
    up.client('autoscaling').create_auto_scaling_group(
        AutoScalingGroupName='g', MinSize=0, MaxSize=0, AvailabilityZones=['us-east-1a'],
        LaunchTemplate={'LaunchTemplateName': 'idle', 'Version': '1'})
    result = subprocess.run([sys.executable, '-m', 'release', 'list', '--json'], cwd=ROOT, capture_output=True,
                            text=True, env={**os.environ, **up.environment}, check=False)
    assert result.returncode == 0, result.stderr
    (entry,) = json.loads(result.stdout)
    assert entry['starts'] == ['the Auto Scaling group g', 'version 1 of the launch template idle']
    assert not up.gaps()


def test_up_again_prints_the_same_and_leaves_it_as_it_is(name: str, up: Rehearsal,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    process = up.facts['pid']
    assert main(['up', '--name', name, '--no-machines']) == 0
    printed = capsys.readouterr()
    assert f'export AWS_ENDPOINT_URL={up.endpoint}\n' in printed.out
    assert 'is already up' in printed.err
    assert up.facts['pid'] == process


def test_status_lists_the_instances(name: str, up: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    launched = launch(up).name
    capsys.readouterr()
    assert main(['status', '--name', name]) == 0
    assert launched in capsys.readouterr().out
    assert main(['status', '--name', name, '--json']) == 0
    status = json.loads(capsys.readouterr().out)
    assert [each['InstanceId'] for each in status['instances']] == [launched]
    assert status['endpoint'] == up.endpoint


def test_gaps_are_listed_and_end_with_a_code_of_their_own(name: str, up: Rehearsal,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['gaps', '--name', name]) == 0
    capsys.readouterr()
    ssm = up.client('ssm')
    for _ in range(2):
        with pytest.raises(ssm.exceptions.ClientError):
            ssm.describe_instance_information()
    assert main(['gaps', '--name', name]) == 4
    assert capsys.readouterr().out == 'ssm:DescribeInstanceInformation (2)\n'


def test_mail_is_listed_with_its_recipient_and_subject(name: str, up: Rehearsal,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    sns = up.client('sns')
    topic = sns.create_topic(Name='on-call')['TopicArn']
    sns.subscribe(TopicArn=topic, Protocol='email', Endpoint='on-call@example.com')
    sns.publish(TopicArn=topic, Subject='ALARM: errors', Message='Next: docs/runbooks/errors.md')
    sns.publish(TopicArn=topic, Message='Only a message')
    capsys.readouterr()
    assert main(['mail', '--name', name]) == 0
    assert [line.split('  ')[1:] for line in capsys.readouterr().out.splitlines()] == [
        ['on-call@example.com', 'ALARM: errors'], ['on-call@example.com', 'Only a message']]
    assert main(['mail', '--name', name, '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['message'] == 'Next: docs/runbooks/errors.md'


@pytest.mark.parametrize('verb', [['status'], ['mail'], ['gaps'], ['shell', 'i-1'], ['console', 'i-1']])
def test_a_verb_that_needs_a_rehearsal_names_the_missing_one(verb: list[str],
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb[0], '--name', 'nobody', *verb[1:]]) == 3
    assert "rehearsal 'nobody' is not up" in capsys.readouterr().err


def test_an_unknown_instance_is_named(name: str, up: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['console', '--name', name, 'i-00000000000000000']) == 1
    assert 'i-00000000000000000' in capsys.readouterr().err


def test_down_without_a_rehearsal_succeeds_at_once() -> None:
    assert main(['down', '--name', 'nobody']) == 0


def test_after_down_nothing_answers_and_nothing_is_left(name: str, up: Rehearsal) -> None:
    process = up.facts['pid']
    assert main(['down', '--name', name]) == 0
    assert not up.is_up and not psutil.pid_exists(process)
    assert not [path for path in root().iterdir() if path.name.startswith(name)]


def test_a_killed_server_is_seen_as_down_and_can_be_brought_up_again(name: str, up: Rehearsal) -> None:
    os.kill(up.facts['pid'], signal.SIGKILL)
    eventually(lambda: not up.is_up, 'it is seen')
    assert main(['status', '--name', name]) == 3
    assert main(['up', '--name', name, '--no-machines']) == 0
    assert up.is_up


def test_two_rehearsals_know_nothing_of_each_other(name: str, up: Rehearsal) -> None:
    with Rehearsal(Settings(machines=False, name=f'{name}-b')) as other:
        up.client('ec2').create_key_pair(KeyName='mine')
        assert up.endpoint != other.endpoint
        assert other.client('ec2').describe_key_pairs()['KeyPairs'] == []
        up.down()
        assert other.is_up


def test_a_rehearsal_ends_with_the_program_that_has_opened_it(name: str) -> None:
    program = ('import time\nfrom rehearsal.client import Rehearsal\nfrom rehearsal.settings import Settings\n'
               f'Rehearsal(Settings(name={name!r}, machines=False)).__enter__()\ntime.sleep(60)\n')
    opener = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT)
    rehearsal = Rehearsal(Settings(name))
    eventually(lambda: rehearsal.is_up, 'it is up')
    opener.kill()
    opener.wait()
    eventually(lambda: not [path for path in root().iterdir() if path.name.startswith(name)], 'nothing is left')
    assert not rehearsal.is_up


@pytest.mark.parametrize('wrong', [
    ('--name', 'Not-A-Name'), ('--name', 'x' * 40), ('--port', '70000'), ('--vpc-cidr', '10.0.0.0'),
    ('--vpc-cidr', '10.0.0.0/24'), ('--vpc-cidr', 'network'), ('--shutdown-seconds', '0'), ('--pace', '0.5')])
def test_a_wrong_option_is_refused_with_its_value(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['up', *wrong]) == 1
    assert wrong[1] in capsys.readouterr().err


@pytest.mark.parametrize('wrong', [(), ('sideways',), ('up', '--port', 'x'), ('shell',), ('console',)])
def test_wrong_usage_ends_with_2(wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2


def test_a_taken_port_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(['up', '--name', name, '--no-machines', '--port', port]) == 1
    assert f'port {port}: Address already in use; choose another with --port' in capsys.readouterr().err


@pytest.mark.parametrize('verb', VERBS)
def test_each_verb_has_help_and_is_in_the_document(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, '--help'])
    assert ended.value.code == 0
    assert 'exit codes:' in capsys.readouterr().out
    assert f'| `{verb}' in DOCUMENT.read_text(encoding='utf-8')


def test_the_document_names_no_verb_and_no_option_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = DOCUMENT.read_text(encoding='utf-8')
    assert set(re.findall(r'bin/rehearsal (\w+)', text)) <= set(VERBS)
    with pytest.raises(SystemExit):
        main(['up', '--help'])
    helped = set(re.findall(r'--[a-z-]+', capsys.readouterr().out)) - {'--help'}
    assert set(re.findall(r'`(--[a-z-]+)', text)) >= helped


def test_names_do_not_meet() -> None:
    one, two = Names('a'), Names('a-b')
    assert one.machine('i-1') != two.machine('i-1') and one.images != two.images
    with pytest.raises(RehearsalError, match="name '1'"):
        Names('1')


def test_a_rehearsal_that_is_down_has_no_endpoint() -> None:
    with pytest.raises(NotUp, match='start it with `rehearsal up`'):
        Rehearsal(Settings('nobody')).endpoint


MODULES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / 'rehearsal').rglob('*.py'))
           if path.name != '__init__.py' and 'files' not in path.parts]


@pytest.mark.parametrize('module', MODULES)
def test_each_module_has_a_row_in_the_documents(module: str) -> None:
    texts = DOCUMENT.read_text(encoding='utf-8'), DOCUMENT.with_name('virtual-machines.md').read_text(encoding='utf-8')
    assert any(f'| `{module}` |' in text for text in texts)


@pytest.mark.parametrize(('imported', 'absent'), [
    ('rehearsal.client', 'moto'),
    (', '.join(name.removesuffix('.py').replace('/', '.') for name in MODULES if '/api/' in name),
     'rehearsal.machines')], ids=['client', 'api'])
def test_a_client_needs_no_moto_and_the_api_no_machines(imported: str, absent: str) -> None:
    program = f'import sys\nimport {imported}\nassert {absent!r} not in sys.modules'
    subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)
