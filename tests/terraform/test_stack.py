"""The stack of terraform/, applied by the real provider to a rehearsal without machines.

Everything that Terraform makes is read back from the API. Instances are records here: a thread of the test completes
the launch hooks that a booting instance would complete.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from threading import Event, Thread
from typing import Any
import uuid

import pytest

from rehearsal.client import Rehearsal
from rehearsal.settings import Settings
from tests.support.alarms import definitions, facts, INSTALLATION
from tests.support.server import ROOT

pytestmark = pytest.mark.stack

REGION, ZONE = 'eu-central-1', 'visitors.example.com'
BUCKETS = ['visitors-artefacts-123456789012', 'visitors-state-123456789012']
STATE_BUCKET = BUCKETS[1]
BOOTSTRAP = ['-var=region=eu-central-1', '-var=monthly_budget_usd=200', '-var=budget_emails=["costs@example.com"]',
             '-var=gitlab_project=group/visitors',
             '-var=environments={staging={domain_name="staging.visitors.example.com"}}']
URL = 'https://staging.visitors.example.com/'
SECONDS = 900
CHANGED = 2  # of `terraform plan -detailed-exitcode`


@dataclass(frozen=True)
class Stack:
    """The stack in a rehearsal, and the way to run Terraform on it."""

    cloud: Rehearsal
    folder: Path
    ami: str

    def terraform(self, *arguments: str, root: str = 'terraform') -> subprocess.CompletedProcess[str]:
        """Return the result of a Terraform command, run in one of its roots with the rehearsal's names."""
        command = [sys.executable, '-m', 'rehearsal', 'run', '--name', self.cloud.settings.name,
                   'terraform', f'-chdir={ROOT / root}', *arguments]
        data = self.folder / root.replace('/', '-')
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS,
                              env={**os.environ, 'TF_DATA_DIR': str(data), 'TF_IN_AUTOMATION': '1',
                                   'TF_CLI_ARGS': '-no-color', 'CHECKPOINT_DISABLE': '1'})

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return the result of a verb of make on the stack, as the pipeline calls it."""
        command = [sys.executable, '-m', 'rehearsal', 'run', '--name', self.cloud.settings.name, 'make', *arguments,
                   'ENVIRONMENT=staging', f'STATE_BUCKET={STATE_BUCKET}', f'PLANS={self.folder / "plans"}']
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS,
                              env={**os.environ, 'TF_DATA_DIR': str(self.folder / 'make'), 'TF_IN_AUTOMATION': '1',
                                   'AWS_REGION': REGION, 'CHECKPOINT_DISABLE': '1'})

    def report(self) -> dict[str, int]:
        """Return the numbers of the last plan by make, which GitLab shows."""
        return dict(json.loads((self.folder / 'plans' / 'staging.json').read_text(encoding='utf-8')))

    def run(self, *arguments: str, root: str = 'terraform') -> str:
        """Return the output of a command of Terraform that succeeded."""
        result = self.terraform(*arguments, root=root)
        assert result.returncode == 0, f'terraform {" ".join(arguments)}:\n{result.stdout}{result.stderr}'
        return result.stdout

    @property
    def bootstrap_state(self) -> str:
        """The option that keeps the bootstrap's state outside the checkout."""
        return f'-state={self.folder / "bootstrap.tfstate"}'

    def plan(self, **variables: Any) -> dict[str, list[str]]:
        """Return the changes of a plan: the actions by the address of the resource."""
        file = self.folder / f'{uuid.uuid4().hex}.plan'
        result = self.terraform('plan', '-input=false', '-detailed-exitcode', f'-out={file}',
                                *self.values(**variables))
        assert result.returncode in (0, CHANGED), result.stdout + result.stderr
        planned = json.loads(self.run('show', '-json', str(file)))
        changes = {change['address']: change['change']['actions'] for change in planned.get('resource_changes', [])}
        return {address: actions for address, actions in changes.items() if actions not in (['no-op'], ['read'])}

    def values(self, **variables: Any) -> Sequence[str]:
        """Return the options that give the stack its variables."""
        values = {'ami_id': self.ami, 'deploy_number': 1, **variables}
        return ['-var-file=environments/staging.tfvars',
                *(f'-var={name}={value if isinstance(value, str) else json.dumps(value)}'
                  for name, value in values.items())]


@contextmanager
def completed_hooks(cloud: Rehearsal) -> Iterator[None]:
    """Complete each launch hook for the time of the block, as a booting instance would."""
    groups, ended = cloud.client('autoscaling'), Event()

    def complete() -> None:
        while not ended.wait(0.5):
            for each in groups.describe_auto_scaling_instances()['AutoScalingInstances']:
                if each['LifecycleState'] == 'Pending:Wait':
                    groups.complete_lifecycle_action(
                        LifecycleHookName='boot', LifecycleActionResult='CONTINUE', InstanceId=each['InstanceId'],
                        AutoScalingGroupName=each['AutoScalingGroupName'])
    thread = Thread(target=complete)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def image(cloud: Rehearsal, released: str) -> str:
    """Return a new AMI with the tag that says whether it is released."""
    ec2 = cloud.client('ec2')
    instance = ec2.run_instances(ImageId=cloud.facts['source_ami'], InstanceType='t3.small', MinCount=1, MaxCount=1)
    name = instance['Instances'][0]['InstanceId']
    ami = str(ec2.create_image(InstanceId=name, Name=f'visitors-{uuid.uuid4().hex[:8]}')['ImageId'])
    ec2.create_tags(Resources=[ami], Tags=[{'Key': 'Released', 'Value': released}, {'Key': 'Version', 'Value': '1.0'}])
    ec2.terminate_instances(InstanceIds=[name])
    return ami


def providers() -> list[str]:
    """Return the option that names the folder of providers of this machine, if it has one; as the Makefile does."""
    folders = [*Path('/').glob('*/registry.terraform.io'), *Path('/').glob('*/*/registry.terraform.io')]
    return [f'-plugin-dir={folders[0].parent}'] if folders else []


@pytest.fixture(scope='module')
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give the stack of staging, applied."""
    if not shutil.which('terraform'):
        pytest.fail('NO STACK TESTED: terraform is missing; `make check-terraform` says where it comes from',
                    pytrace=False)
    settings = Settings(name=f's-{uuid.uuid4().hex[:8]}', region=REGION, machines=False)
    with Rehearsal(settings) as cloud:
        cloud.client('route53').create_hosted_zone(Name=ZONE, CallerReference='tests')
        made = Stack(cloud, tmp_path_factory.mktemp('terraform'), image(cloud, 'true'))
        made.run('init', '-input=false', '-lockfile=readonly', *providers(), root='terraform/bootstrap')
        made.run('apply', '-input=false', '-auto-approve', made.bootstrap_state, *BOOTSTRAP,
                 root='terraform/bootstrap')
        backend = {'bucket': STATE_BUCKET, 'key': 'staging.tfstate', 'region': REGION}
        made.run('init', '-input=false', '-lockfile=readonly', *providers(),
                 *(f'-backend-config={name}={value}' for name, value in backend.items()))
        with completed_hooks(cloud):
            made.run('apply', '-input=false', '-auto-approve', *made.values())
        yield made


def group(stack: Stack) -> dict[str, Any]:
    answer = stack.cloud.client('autoscaling').describe_auto_scaling_groups(AutoScalingGroupNames=['visitors-staging'])
    return dict(answer['AutoScalingGroups'][0])


def test_one_apply_on_an_empty_account_ends_with_the_page_and_instances_in_service(stack: Stack) -> None:
    outputs = {name: output['value'] for name, output in json.loads(stack.run('output', '-json')).items()}
    assert outputs['url'] == URL
    assert outputs['launch_template']['version'] == 1
    assert [each['LifecycleState'] for each in group(stack)['Instances']] == ['InService'] * 2
    assert stack.cloud.gaps() == []


def test_the_alarms_are_those_whose_data_points_are_tested(stack: Stack) -> None:
    regions = [stack.cloud.client('cloudwatch', region_name=region) for region in (REGION, 'us-east-1')]
    described = [alarm for region in regions for alarm in region.describe_alarms()['MetricAlarms']]
    stacks = [alarm for alarm in described if alarm['AlarmName'].startswith(INSTALLATION)]
    assert definitions(stacks) == facts()


def test_a_failed_refresh_reaches_the_person_on_call_with_its_runbook(stack: Stack) -> None:
    event = 'EC2 Auto Scaling Instance Refresh'
    detail = json.dumps({'AutoScalingGroupName': 'visitors-staging', 'InstanceRefreshId': 'r-1'})
    before = len(stack.cloud.mail())
    stack.cloud.client('events').put_events(Entries=[
        {'Source': 'aws.autoscaling', 'DetailType': f'{event} {end}', 'Detail': detail}
        for end in ('Succeeded', 'Failed')])
    assert [each['message'] for each in stack.cloud.mail()[before:] if 'refresh' in each['message']] == [
        f'"{event} Failed: group visitors-staging, refresh r-1. Next: docs/runbooks/refresh-failed.md"']


def test_a_second_plan_changes_nothing(stack: Stack) -> None:
    assert stack.plan() == {}


def test_a_second_plan_of_the_bootstrap_changes_nothing(stack: Stack) -> None:
    result = stack.terraform('plan', '-input=false', '-detailed-exitcode', stack.bootstrap_state, *BOOTSTRAP,
                             root='terraform/bootstrap')
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_state_cannot_be_destroyed_by_mistake(stack: Stack) -> None:
    result = stack.terraform('destroy', '-input=false', '-auto-approve', stack.bootstrap_state, *BOOTSTRAP,
                             root='terraform/bootstrap')
    assert result.returncode == 1
    assert 'lifecycle.prevent_destroy' in result.stderr


def test_a_new_ami_is_a_new_version_of_the_launch_template_and_nothing_else(stack: Stack) -> None:
    planned = stack.plan(ami_id=image(stack.cloud, 'true'), deploy_number=2)
    assert planned == {'module.service.aws_launch_template.this': ['update']}


def test_the_same_ami_with_a_new_number_is_a_new_attempt(stack: Stack) -> None:
    assert stack.plan(deploy_number=2) == {'module.service.aws_launch_template.this': ['update']}


def test_an_ami_that_is_not_released_ends_the_plan_with_what_to_do(stack: Stack) -> None:
    ami = image(stack.cloud, 'false')
    result = stack.terraform('plan', '-input=false', *stack.values(ami_id=ami))
    message = re.sub(r'[\s│]+', ' ', result.stderr)
    assert result.returncode == 1
    assert f'{ami} is not released' in message and f'`release verify {ami}` tests one' in message


def test_capacity_that_a_person_changes_is_no_difference_even_while_instances_boot(stack: Stack) -> None:
    stack.cloud.client('autoscaling').set_desired_capacity(AutoScalingGroupName='visitors-staging', DesiredCapacity=3)
    assert stack.plan() == {}
    assert group(stack)['DesiredCapacity'] == 3


def test_more_connections_of_the_database_change_one_alarm(stack: Stack) -> None:
    database = {'instance_class': 'db.t4g.micro', 'connections': 100, 'multi_az': False,
                'storage_gib': {'initial': 20, 'maximum': 40}}
    assert stack.plan(database=database) == {
        'module.monitoring.aws_cloudwatch_metric_alarm.this["database-connections"]': ['update']}


def test_an_environment_without_a_difference_has_no_drift(stack: Stack) -> None:
    result = stack.make('drift')
    assert result.returncode == 0, result.stdout + result.stderr
    assert stack.report() == {'create': 0, 'update': 0, 'delete': 0}


def test_a_change_by_hand_is_a_drift_and_no_part_of_a_review(stack: Stack) -> None:
    logs = stack.cloud.client('logs')
    logs.put_retention_policy(logGroupName='/visitors/staging', retentionInDays=7)
    try:
        drift = stack.make('drift')
        assert drift.returncode != 0
        assert 'the environment staging differs from its last apply' in drift.stderr
        review = stack.make('review')
        assert review.returncode == 0, review.stdout + review.stderr
        assert stack.report() == {'create': 0, 'update': 0, 'delete': 0}
    finally:
        logs.put_retention_policy(logGroupName='/visitors/staging', retentionInDays=30)


def test_make_applies_exactly_the_plan_that_it_made(stack: Stack) -> None:
    planned = stack.make('plan', f'AMI={stack.ami}', 'DEPLOY=5')
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert stack.report() == {'create': 0, 'update': 1, 'delete': 0}
    applied = stack.make('apply')
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert stack.plan(deploy_number=5) == {}
    again = stack.make('apply')
    assert 'Saved plan is stale' in again.stderr, 'a plan is applied once'


def test_the_key_of_the_visitors_is_in_secrets_manager_and_not_in_the_state(stack: Stack) -> None:
    secrets = stack.cloud.client('secretsmanager')
    (name,) = [each['ARN'] for each in secrets.list_secrets()['SecretList'] if 'visitor-key' in each['Name']]
    key = secrets.get_secret_value(SecretId=name)['SecretString']
    state = stack.cloud.client('s3').get_object(Bucket=STATE_BUCKET, Key='staging.tfstate')['Body'].read().decode()
    assert 32 <= len(key) <= 64
    assert name in state and key not in state


def test_an_instance_finds_every_parameter_that_it_reads(stack: Stack) -> None:
    pages = stack.cloud.client('ssm').get_paginator('get_parameters_by_path').paginate(Path='/visitors/staging',
                                                                                       Recursive=True)
    parameters = {each['Name']: each for page in pages for each in page['Parameters']}
    assert {each['Type'] for each in parameters.values()} == {'String'}
    url = parameters['/visitors/staging/settings/DATABASE_URL']['Value']
    assert re.match(r'postgresql://visitors_app@[^:/]+:5432/visitors\?sslmode=verify-full&sslrootcert=/', url)


def test_a_destroy_leaves_nothing_but_what_protection_keeps(stack: Stack) -> None:
    # Last in this file: the tests above need the stack.
    stack.run('destroy', '-input=false', '-auto-approve', *stack.values())
    cloud = stack.cloud
    live = {'Name': 'instance-state-name', 'Values': ['pending', 'running', 'stopping', 'stopped']}
    assert cloud.client('ec2').describe_instances(Filters=[live])['Reservations'] == []
    vpcs = cloud.client('ec2').describe_vpcs(Filters=[{'Name': 'is-default', 'Values': ['false']}])
    assert vpcs['Vpcs'] == []
    assert cloud.client('elbv2').describe_load_balancers()['LoadBalancers'] == []
    assert cloud.client('rds').describe_db_instances()['DBInstances'] == []
    assert cloud.client('ssm').get_parameters_by_path(Path='/visitors', Recursive=True)['Parameters'] == []
    assert cloud.client('cloudwatch').describe_alarms()['MetricAlarms'] == []
    assert cloud.client('logs').describe_log_groups()['logGroups'] == []
    assert sorted(each['Name'] for each in cloud.client('s3').list_buckets()['Buckets']) == BUCKETS
    (snapshot,) = cloud.client('rds').describe_db_snapshots(SnapshotType='manual')['DBSnapshots']
    assert snapshot['DBSnapshotIdentifier'].startswith('visitors-staging-final-')
    assert cloud.gaps() == []
