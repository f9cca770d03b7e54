"""Prune and sweep by the command line: the removed resources, the kept ones, and both opinions about a use."""

import json
from pathlib import Path
from typing import Any

import pytest

from release import session
from tests.support.account import Account, REGION, SOURCE_AMI
from tests.support.checkout import Checkout, Ended
from tests.support.local_aws import SIZE

AGES = (100, 90, 80, 70, 60, 50)
NARROW = ('--keep', '1', '--days', '30')


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout of the release tool."""
    return Checkout(tmp_path, account)


@pytest.fixture
def amis(account: Account) -> list[str]:
    """Give six old releases, the oldest first."""
    return [account.add_ami(f'1.0.{number}', days) for number, days in enumerate(AGES)]


def rows(ended: Ended) -> dict[str, tuple[str, str]]:
    """Return decision and reasons by the id of each resource."""
    assert ended.code == 0, ended
    return {row['id']: (row['decision'], '; '.join(row['why'])) for row in json.loads(ended.out)}


def left(account: Account) -> list[str]:
    return [str(image['ImageId']) for image in account.images()]


def test_without_yes_nothing_is_removed_and_the_table_says_what_and_why(checkout: Checkout, account: Account,
                                                                        amis: list[str]) -> None:
    result = checkout.release('prune', *NARROW)
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0].split() == ['DECISION', 'KIND', 'ID', 'CONTENT', 'AGE', 'WHY']
    assert f'remove    AMI   {amis[0]}  app 1.0.0  100 d  unused, and outside the rollback window' in lines
    assert f'keep      AMI   {amis[5]}  app 1.0.5  50 d   one of the 1 newest' in lines
    assert lines[-1] == 'keep: 1, remove: 5; nothing was removed, --yes removes'
    assert left(account) == amis


def test_a_call_removes_the_oldest_up_to_its_limit_and_the_next_call_the_rest(checkout: Checkout, account: Account,
                                                                              amis: list[str]) -> None:
    decisions = rows(checkout.release('prune', *NARROW, '--limit', '2', '--yes', '--json'))
    assert [decisions[ami][0] for ami in amis] == ['removed', 'removed', 'next run', 'next run', 'next run', 'keep']
    assert left(account) == amis[2:]
    assert checkout.release('prune', *NARROW, '--yes').out.endswith('keep: 1, removed: 3')
    assert (left(account), account.leftovers()) == (amis[5:], {})


def test_the_way_back_from_the_running_release_stays(checkout: Checkout, account: Account, amis: list[str]) -> None:
    account.run_in_a_group(amis[2])
    decisions = rows(checkout.release('prune', *NARROW, '--yes', '--json'))
    assert left(account) == [amis[1], amis[2], amis[5]]
    assert decisions[amis[1]] == ('keep', f'one of the 1 before {amis[2]}, which is in use')
    assert 'runs' in decisions[amis[2]][1] and 'the Auto Scaling group' in decisions[amis[2]][1]


def test_versions_that_nothing_needs_go_before_their_amis(checkout: Checkout, account: Account,
                                                          amis: list[str]) -> None:
    template = account.add_template('visitors', *amis[3:], *amis[:3], amis[5], days=40)
    decisions = rows(checkout.release('prune', *NARROW, '--limit', '100', '--yes', '--json'))
    versions = {name.partition(':')[2]: decision for name, (decision, _) in decisions.items() if ':' in name}
    # 1 is the default and 7 the latest; 6 and 2 have the releases before those.
    assert versions == {**dict.fromkeys('1267', 'keep'), **dict.fromkeys('345', 'removed')}
    assert left(account) == amis[2:]
    described = account.client('ec2').describe_launch_template_versions(LaunchTemplateId=template)
    assert sorted(each['VersionNumber'] for each in described['LaunchTemplateVersions']) == [1, 2, 6, 7]


def test_a_version_of_a_running_refresh_and_its_ami_stay(checkout: Checkout, account: Account,
                                                         amis: list[str]) -> None:
    template = account.add_template('visitors', amis[5], amis[0], amis[1], amis[5], days=40)
    account.client('autoscaling').create_auto_scaling_group(
        AutoScalingGroupName='visitors', MinSize=0, MaxSize=0, AvailabilityZones=[f'{REGION}a'],
        LaunchTemplate={'LaunchTemplateId': template, 'Version': '1'})
    account.refresh('visitors', 'InProgress', {'LaunchTemplate': {'LaunchTemplateName': 'visitors', 'Version': '2'}})
    decisions = rows(checkout.release('prune', *NARROW, '--limit', '100', '--yes', '--json'))
    assert amis[0] in left(account) and amis[1] not in left(account)
    assert decisions[f'{template}:2'] == (
        'keep', 'the instance refresh of the Auto Scaling group visitors names it; the newest version with '
        f'{amis[0]}, which stays')
    assert decisions[f'{template}:3'][0] == 'removed'


@pytest.mark.parametrize('kind', ['text', 'aws:ec2:image'])
def test_a_parameter_that_names_an_ami_keeps_it(checkout: Checkout, account: Account, amis: list[str],
                                                kind: str) -> None:
    account.client('ssm').put_parameter(Name='/visitors/staging/ami', Value=amis[0], Type='String', DataType=kind)
    decisions = rows(checkout.release('prune', *NARROW, '--yes', '--json'))
    assert f'the parameter /visitors/staging/ami starts {amis[0]}' in decisions[amis[0]][1]
    assert left(account) == [amis[0], amis[5]]


def test_ec2s_own_list_of_references_keeps_what_the_tool_cannot_see(checkout: Checkout, account: Account,
                                                                    amis: list[str]) -> None:
    account.client('ssm').put_parameter(Name='/elsewhere', Value=amis[0], Type='String', DataType='aws:ec2:image')
    decisions = rows(checkout.release('prune', *NARROW, '--yes', '--json'))
    assert decisions[amis[0]] == ('keep', 'EC2 lists parameter/elsewhere as a reference')
    assert left(account) == [amis[0], amis[5]]


@pytest.mark.parametrize('operation', ['DescribeImageReferences', 'DescribeAutoScalingGroups', 'GetParametersByPath',
                                       'DescribeLaunchTemplates', 'DescribeInstances'])
def test_nothing_is_removed_if_one_of_the_opinions_cannot_be_had(checkout: Checkout, account: Account,
                                                                 amis: list[str], operation: str) -> None:
    account.refuse(operation, times=1, status=403, code='UnauthorizedOperation')
    result = checkout.release('prune', *NARROW, '--yes')
    assert (result.code, left(account)) == (3, amis), result


def test_a_use_that_begins_after_the_decision_stops_the_removal(checkout: Checkout, account: Account,
                                                                amis: list[str]) -> None:
    def roll(_call: Any) -> None:
        account.client('ec2').run_instances(ImageId=amis[1], InstanceType=SIZE, MinCount=1, MaxCount=1)

    account.rehearsal.faults.watch('DeregisterImage', act=lambda call: roll(call) if amis[0] in call.text else None)
    result = checkout.release('prune', *NARROW, '--yes')
    assert (result.code, f'{amis[1]} is in use now, so it stays' in result.err) == (3, True), result
    assert left(account) == [amis[1], amis[5]]


def test_a_protected_ami_a_foreign_one_and_its_template_stay(checkout: Checkout, account: Account,
                                                             amis: list[str]) -> None:
    foreign = account.add_ami('other', 90, Project='other')
    kept = account.add_ami('kept', 90, Keep='audit')
    account.client('ec2').create_launch_template(LaunchTemplateName='other', LaunchTemplateData={'ImageId': amis[0]})
    decisions = rows(checkout.release('prune', *NARROW, '--yes', '--json'))
    assert foreign not in decisions and decisions[kept][1] == 'the tag Keep=audit'
    assert 'version 1 of the launch template other starts' in decisions[amis[0]][1]
    images = account.client('ec2').describe_images(Owners=['self'])['Images']
    assert {each['ImageId'] for each in images} == {foreign, kept, amis[0], amis[5]}


def test_an_orphaned_snapshot_goes_after_its_time(checkout: Checkout, account: Account, amis: list[str]) -> None:
    account.keep_snapshot_of(amis[0])
    account.refuse('DeleteSnapshot', times=1, status=400, code='InvalidSnapshot.InUse')
    assert checkout.release('remove', amis[0], '--yes').code == 3
    (snapshot,) = account.leftovers()['snapshots']
    assert rows(checkout.release('prune', '--days', '101', '--json'))[snapshot][1] == 'younger than 101 days'
    assert rows(checkout.release('prune', '--days', '99', '--yes', '--json'))[snapshot] == ('removed', '')
    assert not account.leftovers()


def leave(account: Account, run: str, **tags: str) -> str:
    """Return the id of a new instance with the tags of a bake."""
    tagged = [{'Key': key, 'Value': value} for key, value in {'Project': 'visitors', 'Run': run, **tags}.items()]
    answer = account.client('ec2').run_instances(
        ImageId=SOURCE_AMI, InstanceType=SIZE, MinCount=1, MaxCount=1,
        TagSpecifications=[{'ResourceType': kind, 'Tags': tagged} for kind in ('instance', 'volume')])
    return str(answer['Instances'][0]['InstanceId'])


OLD, OLDER, YOUNG = '20260101T000000Z-00000a', '20251231T000000Z-00000b', session.new_run_id()


def test_sweep_removes_what_old_dead_runs_left_and_nothing_else(checkout: Checkout, account: Account) -> None:
    swept, young = leave(account, OLD), leave(account, YOUNG)
    foreign, no_run = leave(account, OLDER, Project='other'), leave(account, 'nightly')
    dry = checkout.release('sweep')
    assert (dry.code, f'sweep     {OLD}' in dry.out) == (0, True), dry
    result = checkout.release('sweep', '--yes', '--json')
    assert result.code == 0, result
    found = {row['run']: (row['decision'], '; '.join(row['why'])) for row in json.loads(result.out)}
    assert found[OLD] == ('swept', '')
    assert found[OLDER] == ('keep', f'the instance {foreign} has no tag Project=visitors; ' + '; '.join(
        f'the volume {volume} has no tag Project=visitors' for volume in volumes_of(account, foreign)))
    assert found[YOUNG] == ('keep', 'too young: the run may still be alive')
    assert found['nightly'][1].startswith('no run of this tool has such an id')
    states = {each['InstanceId']: each['State']['Name'] for each in account.instances()}
    assert states == {swept: 'terminated', young: 'running', foreign: 'running', no_run: 'running'}


def volumes_of(account: Account, instance: str) -> list[str]:
    described = account.client('ec2').describe_volumes(Filters=[
        {'Name': 'attachment.instance-id', 'Values': [instance]}])
    return [str(each['VolumeId']) for each in described['Volumes']]


def test_sweep_keeps_a_run_that_holds_a_lease_and_counts_runs_for_its_limit(checkout: Checkout,
                                                                            account: Account) -> None:
    for run in (OLD, OLDER):
        leave(account, run)
    account.client('ssm').put_parameter(Name='/visitors/bake/0123456789abcdef/1', Type='String',
                                        Value=json.dumps({'run': OLDER, 'who': 'job 7'}))
    assert 'job 7 is baking' in checkout.release('sweep').out
    account.age_parameters(91)
    result = checkout.release('sweep', '--limit', '1', '--yes', '--json')
    assert [(row['run'], row['decision']) for row in json.loads(result.out)] == [(OLDER, 'swept'), (OLD, 'next run')]


@pytest.mark.parametrize('arguments', [('prune', '--keep', '0'), ('prune', '--limit', 'all'),
                                       ('prune', '--days', '-1'), ('sweep', '--hours', '23')])
def test_a_window_that_protects_nothing_is_wrong_usage(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    assert checkout.release(*arguments).code == 2
