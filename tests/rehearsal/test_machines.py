"""Machines of a rehearsal: they boot, read their metadata, become AMIs, and end by an order or by themselves."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

import pytest

from rehearsal.client import Rehearsal
from tests.support.instances import BOOT_SECONDS, Instance, launch, launch_to_build_on
from tests.support.server import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.ami

# Asks the metadata service as a program on EC2 would, and prints the answers on the console.
ASKING = """#!/bin/sh
exec > /dev/console
metadata=http://169.254.169.254/latest
token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token)
ask() { curl -s -H "X-aws-ec2-metadata-token: $token" $metadata/$1; }
echo "asked without token: $(curl -s -o /dev/null -w '%{http_code}' $metadata/meta-data/)"
echo "asked for $(ask meta-data/instance-id) $(ask meta-data/local-ipv4) $(ask meta-data/iam/security-credentials/)"
echo "asked for state: $(ask meta-data/autoscaling/target-lifecycle-state)"
echo "asked the API: $(curl -s -o /dev/null -w '%{http_code}' http://169.254.169.250/)"
"""
# ls fails when one of the files is missing, as the second one should be.
LIST = 'ls -d /kept /run/lost 2> /dev/null || true'
BROKEN_UNIT = r"""#cloud-config
bootcmd:
- [sh, -c, "printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n' > /run/systemd/system/broken.service"]
- [systemctl, daemon-reload]
- [systemctl, start, --no-block, broken.service]
"""
SAYING = '#!/bin/sh\necho "said: {}" > /dev/console\n'


@pytest.fixture(scope='module')
def builder(rehearsal: Rehearsal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Give an instance that was logged in to; tests may change files on it, but not stop it."""
    instance = launch_to_build_on(rehearsal, tmp_path_factory.mktemp('keys'), UserData=SAYING.format('hello'))
    instance.run('true')
    yield instance
    instance.terminate()


def encoded(script: str) -> str:
    return b64encode(script.encode()).decode()


def stored(rehearsal: Rehearsal, instance: Instance, name: str, **options: bool) -> str:
    """Return a new AMI of an instance, when it is available."""
    ec2 = rehearsal.client('ec2')
    ami = ec2.create_image(InstanceId=instance.name, Name=f'{name}-{time.monotonic_ns()}', **options)['ImageId']
    eventually(lambda: bool(ec2.describe_images(ImageIds=[ami])['Images'][0]['State'] == 'available'), 'stored')
    return str(ami)


def test_it_boots_without_a_failed_unit_and_cloud_init_is_content(builder: Instance) -> None:
    assert builder.run('cloud-init status --wait') == 'status: done'
    assert builder.run('systemctl --failed --no-legend') == ''


def test_it_is_debian_13_on_ec2_as_far_as_it_can_tell(builder: Instance) -> None:
    assert builder.run('. /etc/os-release; echo $ID $VERSION_ID') == 'debian 13'
    assert builder.run('cloud-init query platform') == 'ec2'
    assert builder.run('hostname') == builder.described['PrivateDnsName'].partition('.')[0]


def test_its_card_has_the_address_that_the_api_reports(builder: Instance) -> None:
    (card,) = builder.described['NetworkInterfaces']
    output = builder.run('ip -oneline address show eth0; ip link show eth0')
    assert f'inet {card["PrivateIpAddress"]}/' in output
    assert card['MacAddress'] in output


def test_user_data_run_and_show_on_the_console(builder: Instance) -> None:
    assert 'said: hello' in builder.wait_for_console('said: hello')


def test_the_console_shows_the_boot(builder: Instance) -> None:
    console = builder.wait_for_console('Cloud-init target')
    assert 'Welcome to Debian GNU/Linux 13 (trixie)' in console


def test_packages_come_from_debians_archive(builder: Instance) -> None:
    builder.run('sudo apt-get -qq update && sudo apt-get -qq --yes install tree 2>&1')
    assert builder.run('tree --version').startswith('tree')


def test_from_the_archives_address_nothing_else_can_be_read(builder: Instance) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code} ' http://deb.debian.org"
    assert builder.run(f'{ask}/ {ask[5:]}/pub/; {ask}/debian/dists/trixie/InRelease') == '403 403 200'


def test_settings_of_this_machines_kernel_cannot_be_changed_but_those_of_its_network(builder: Instance) -> None:
    # sysctl fails, as it should, and prints each refusal.
    change = 'sudo sysctl -w fs.file-max=1000000 kernel.panic=7 vm.swappiness=7 2>&1 || true'
    before = {name: Path(f'/proc/sys/{name}').read_text() for name in ('fs/file-max', 'kernel/panic', 'vm/swappiness')}
    assert builder.run(change).count('permission denied') == 3
    assert {name: Path(f'/proc/sys/{name}').read_text() for name in before} == before
    assert builder.run('sudo sysctl -w net.ipv4.ip_local_port_range="20000 60000"').startswith('net.')


def test_a_machine_leaves_the_cgroups_of_this_machine_as_they_are(builder: Instance) -> None:
    assert builder.run('findmnt --noheadings --output FSTYPE /sys/fs/cgroup') in ('tmpfs', 'cgroup2')
    assert builder.run('sudo touch /sys/fs/cgroup/touched 2> /dev/null; true') == ''
    assert not Path('/sys/fs/cgroup/touched').exists()


def test_an_engine_in_a_machine_runs_containers_and_its_images_get_into_an_ami(
        rehearsal: Rehearsal, tmp_path: Path) -> None:
    instance = launch_to_build_on(rehearsal, tmp_path)
    instance.run('sudo apt-get -qq update && sudo apt-get -qq --yes install busybox-static docker.io 2>&1')
    instance.run('sudo tar --create --directory=/bin busybox | sudo docker import - busybox:1')
    run = 'sudo docker run --rm {} busybox:1 /busybox {}'
    limits = '--network=host --memory=64m --read-only --cap-drop=ALL --security-opt=no-new-privileges'
    assert instance.run(run.format(limits, 'echo contained')) == 'contained'
    assert instance.run(run.format('', 'ip route | grep --count default')) == '1', 'a bridge of its own works'
    ami = stored(rehearsal, instance, 'engine')
    instance.terminate()
    copy = launch_to_build_on(rehearsal, tmp_path, ImageId=ami)
    assert copy.run('sudo docker info --format "{{.Driver}}"') == 'overlay2'
    assert copy.run(run.format(limits, 'echo again')) == 'again'
    copy.terminate()
    rehearsal.client('ec2').deregister_image(ImageId=ami, DeleteAssociatedSnapshots=True)


def test_it_has_no_more_memory_than_its_type(builder: Instance) -> None:
    eat = "python3 -c 'b = bytearray(3 << 30)' && echo eaten || echo killed"
    assert builder.run(eat) == 'killed'


def test_an_ami_of_a_running_machine_has_its_files_and_the_machine_comes_back(
        rehearsal: Rehearsal, builder: Instance, tmp_path: Path) -> None:
    builder.run('sudo sh -c "echo baked > /etc/baked; echo image > /var/lib/docker/baked"')
    ami = stored(rehearsal, builder, 'running')
    assert builder.run('cat /etc/baked; uptime --since > /dev/null') == 'baked'
    copy = launch_to_build_on(rehearsal, tmp_path, ImageId=ami)
    assert copy.run('cat /etc/baked; sudo cat /var/lib/docker/baked') == 'baked\nimage'
    assert copy.run('cat /etc/machine-id') != ''
    copy.terminate()
    rehearsal.client('ec2').deregister_image(ImageId=ami, DeleteAssociatedSnapshots=True)


def test_nothing_that_makes_a_container_a_machine_gets_into_an_image(
        rehearsal: Rehearsal, builder: Instance, tmp_path: Path) -> None:
    ami = stored(rehearsal, builder, 'clean', NoReboot=True)
    copy = launch_to_build_on(rehearsal, tmp_path, ImageId=ami)
    # The overlays of these files are mounts of their own, above the files of Debian.
    below = 'sudo sh -c "mkdir /below; mount --bind / /below; {}"'
    assert copy.run(below.format('grep --count _call_dmidecode '
                                 '/below/usr/lib/python3/dist-packages/cloudinit/dmi.py')) == '2'
    assert copy.run('sudo sh -c "stat --format=%s /below/usr/sbin/dhcpcd"') != '0'
    # grep fails when no file contains the addresses.
    assert copy.run('sudo grep --recursive --files-with-matches 169.254.169.25[013] /below/etc || true') == ''
    copy.terminate()
    rehearsal.client('ec2').deregister_image(ImageId=ami)


def test_a_stopped_machine_starts_again_with_its_disk_and_a_clean_run(rehearsal: Rehearsal, tmp_path: Path) -> None:
    instance = launch_to_build_on(rehearsal, tmp_path)
    instance.run('sudo touch /kept /run/lost')
    rehearsal.client('ec2').stop_instances(InstanceIds=[instance.name])
    instance.wait_until('stopped')
    assert 'Powering off' in instance.console, 'it was shut down in order'
    assert instance.described['StateReason']['Code'] == 'Client.UserInitiatedShutdown'
    rehearsal.client('ec2').start_instances(InstanceIds=[instance.name])
    assert instance.run(LIST) == '/kept'
    assert instance.state == 'running'
    instance.terminate()


@pytest.mark.parametrize('how', ['inside', 'api'])
def test_a_reboot_is_a_boot_of_the_same_machine(rehearsal: Rehearsal, tmp_path: Path, how: str) -> None:
    instance = launch_to_build_on(rehearsal, tmp_path)
    instance.run('sudo touch /kept /run/lost')
    if how == 'api':
        rehearsal.client('ec2').reboot_instances(InstanceIds=[instance.name])
    else:
        instance.run('sudo systemd-run --on-active=1 systemctl reboot')
    eventually(lambda: instance.console.count('Welcome to Debian') == 2, 'it boots again', BOOT_SECONDS)
    assert instance.run(LIST) == '/kept'
    assert instance.state == 'running'
    instance.terminate()


@pytest.mark.parametrize(('behavior', 'state'), [('stop', 'stopped'), ('terminate', 'terminated')])
def test_a_machine_that_powers_itself_off_ends_as_it_was_launched_to(
        rehearsal: Rehearsal, behavior: str, state: str) -> None:
    instance = launch(rehearsal, InstanceInitiatedShutdownBehavior=behavior,
                      UserData=SAYING.format('bye') + 'systemctl --no-block poweroff\n')
    instance.wait_until(state)
    assert instance.described['StateReason']['Code'] == 'Client.InstanceInitiatedShutdown'
    assert 'said: bye' in instance.console, 'it can still be read'
    if state == 'stopped':
        instance.terminate()
        assert 'said: bye' in instance.console


def test_a_boot_that_fails_is_on_the_console(rehearsal: Rehearsal) -> None:
    instance = launch(rehearsal, UserData=BROKEN_UNIT)
    instance.wait_for_console('Failed to start broken.service')
    instance.terminate()


def test_a_machine_that_is_not_done_booting_can_be_terminated(rehearsal: Rehearsal) -> None:
    instance = launch(rehearsal)
    instance.terminate()
    assert instance.described['StateReason']['Code'] == 'Client.UserInitiatedShutdown'


def test_several_machines_boot_at_once(rehearsal: Rehearsal) -> None:
    answer = rehearsal.client('ec2').run_instances(
        ImageId=rehearsal.facts['source_ami'], InstanceType='t3.small', MinCount=3, MaxCount=3,
        UserData=SAYING.format('together'))
    instances = [Instance(rehearsal, each['InstanceId']) for each in answer['Instances']]
    for instance in instances:
        instance.wait_for_console('said: together')
    assert len({instance.described['PrivateIpAddress'] for instance in instances}) == 3
    rehearsal.client('ec2').terminate_instances(InstanceIds=[instance.name for instance in instances])
    for instance in instances:
        instance.wait_until('terminated')


def test_a_group_launches_machines_that_know_their_ids_and_replaces_them(rehearsal: Rehearsal) -> None:
    ec2, scaling, iam = (rehearsal.client(service) for service in ('ec2', 'autoscaling', 'iam'))
    iam.create_role(RoleName='machine', AssumeRolePolicyDocument='{}')
    iam.create_instance_profile(InstanceProfileName='profile')
    iam.add_role_to_instance_profile(InstanceProfileName='profile', RoleName='machine')
    ec2.create_launch_template(LaunchTemplateName='machines', LaunchTemplateData={
        'ImageId': rehearsal.facts['source_ami'], 'InstanceType': 't3.small', 'UserData': encoded(ASKING),
        'IamInstanceProfile': {'Name': 'profile'}})
    scaling.create_auto_scaling_group(
        AutoScalingGroupName='machines', MinSize=0, MaxSize=2, DesiredCapacity=1, AvailabilityZones=['us-east-1a'],
        LaunchTemplate={'LaunchTemplateName': 'machines'},
        LifecycleHookSpecificationList=[{'LifecycleHookName': 'ready', 'HeartbeatTimeout': 600,
                                         'LifecycleTransition': 'autoscaling:EC2_INSTANCE_LAUNCHING'}])

    def members() -> dict[str, str]:
        answer = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=['machines'])
        return {each['InstanceId']: each['LifecycleState'] for each in answer['AutoScalingGroups'][0]['Instances']}
    eventually(lambda: list(members().values()) == ['Pending:Wait'], 'one waits')
    first = Instance(rehearsal, list(members())[0])
    console = first.wait_for_console('asked the API')
    assert 'asked without token: 401' in console
    assert f'asked for {first.name} {first.described["PrivateIpAddress"]} machine' in console
    assert 'asked for state: InService' in console
    assert 'asked the API: 200' in console
    named = {'AutoScalingGroupName': 'machines', 'LifecycleHookName': 'ready'}
    scaling.complete_lifecycle_action(InstanceId=first.name, LifecycleActionResult='CONTINUE', **named)
    eventually(lambda: members() == {first.name: 'InService'}, 'it serves')
    scaling.terminate_instance_in_auto_scaling_group(InstanceId=first.name, ShouldDecrementDesiredCapacity=False)
    eventually(lambda: first.name not in members() and list(members().values()) == ['Pending:Wait'],
               'another one waits')
    assert first.state == 'terminated'
    scaling.delete_auto_scaling_group(AutoScalingGroupName='machines', ForceDelete=True)


def test_nothing_that_was_asked_for_is_missing(rehearsal: Rehearsal) -> None:
    assert rehearsal.gaps() == []


def test_a_machine_reaches_the_database_of_its_vpc_at_the_address_behind_its_name(rehearsal: Rehearsal) -> None:
    rds = rehearsal.client('rds')
    rds.create_db_instance(DBInstanceIdentifier='reached', DBInstanceClass='db.t4g.micro', Engine='postgres',
                           EngineVersion='17', MasterUsername='visitors_owner', ManageMasterUserPassword=True)
    eventually(lambda: bool(database(rds)['DBInstanceStatus'] == 'available'), 'the database is available')
    host, port = database(rds)['Endpoint']['Address'], database(rds)['Endpoint']['Port']
    found = subprocess.run([sys.executable, '-m', 'rehearsal', 'run', '--name', rehearsal.settings.name,
                            'getent', 'hosts', host], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.split() == [rehearsal.gateway, host]
    # PostgreSQL answers the request for TLS with one letter.
    # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
    asking = (f'#!/bin/bash\nexec 3<> /dev/tcp/{rehearsal.gateway}/{port}\n'
              r"printf '\0\0\0\10\4\322\26\57' >&3"
              '\necho "the database answers $(head --bytes 1 <&3)" > /dev/console\n')
    instance = launch(rehearsal, UserData=asking)
    instance.wait_for_console('the database answers S')
    instance.terminate()
    rds.delete_db_instance(DBInstanceIdentifier='reached', SkipFinalSnapshot=True)
    eventually(lambda: rds.describe_db_instances()['DBInstances'] == [], 'the database is gone')


def database(rds: Any) -> dict[str, Any]:
    """Return the description of the only database."""
    (description,) = rds.describe_db_instances()['DBInstances']
    return dict(description)
