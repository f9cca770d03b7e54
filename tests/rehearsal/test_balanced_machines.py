"""A load balancer before a machine, and its end after `kill -9` of the server."""

from collections.abc import Iterator
import os
import signal
import uuid

import psutil
import pytest

from rehearsal.client import Rehearsal
from rehearsal.folder import Folder
from rehearsal.machines.sweep import BALANCERS, balancers_in
from rehearsal.settings import Settings
from tests.support.balanced_site import ask, forward
from tests.support.instances import admit_this_host, launch
from tests.support.waiting import eventually

pytestmark = pytest.mark.ami

SERVING = """#!/bin/sh
mkdir /srv/page && cd /srv/page && echo up > livez && exec systemd-run --working-directory=/srv/page \
    python3 -m http.server 8000
"""


@pytest.fixture
def own() -> Iterator[Rehearsal]:
    """Give a rehearsal of its own, which is down afterwards."""
    rehearsal = Rehearsal(Settings(name=f'b-{uuid.uuid4().hex[:8]}'))
    rehearsal.up()
    admit_this_host(rehearsal)
    yield rehearsal
    rehearsal.down()


def test_a_load_balancer_leads_to_a_machine_until_the_rehearsal_is_down(own: Rehearsal) -> None:
    ec2, elb = own.client('ec2'), own.client('elbv2')
    instance = launch(own, UserData=SERVING).name
    vpc = ec2.describe_vpcs()['Vpcs'][0]['VpcId']
    subnets = [each['SubnetId'] for each in ec2.describe_subnets()['Subnets']]
    balancer = elb.create_load_balancer(Name='page', Subnets=subnets)['LoadBalancers'][0]
    group = elb.create_target_group(Name='page', Protocol='HTTP', Port=8000, VpcId=vpc, HealthCheckPath='/livez',
                                    HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2)['TargetGroups'][0]
    arn = group['TargetGroupArn']
    elb.create_listener(LoadBalancerArn=balancer['LoadBalancerArn'], Protocol='HTTP', Port=80,
                        DefaultActions=[forward(arn)])
    eventually(lambda: ec2.describe_instances(InstanceIds=[instance])['Reservations'][0]['Instances'][0]['State'][
        'Name'] == 'running', 'it runs')
    elb.register_targets(TargetGroupArn=arn, Targets=[{'Id': instance}])

    def state() -> str:
        described = elb.describe_target_health(TargetGroupArn=arn, Targets=[{'Id': instance}])
        return str(described['TargetHealthDescriptions'][0]['TargetHealth']['State'])

    eventually(lambda: state() == 'healthy', lambda: f'{instance} is {state()}')
    folder = Folder(own.settings.names).path / BALANCERS
    (process,) = balancers_in(folder)
    (address,) = {each.laddr.ip for each in process.net_connections('tcp4') if each.status == psutil.CONN_LISTEN}
    assert ask(address, '/livez').body == 'up\n'
    eventually(lambda: [each for each in own.requests() if each['target'] == instance], 'the request is in the books')
    assert own.gaps() == []

    ec2.terminate_instances(InstanceIds=[instance])
    eventually(lambda: state() == 'draining', 'it drains')
    eventually(lambda: ask(address, '/livez').status == 503, 'no target is left')
    os.kill(int(own.facts['pid']), signal.SIGKILL)
    assert balancers_in(folder) == [process], 'it outlives the server'
    own.down()
    assert not balancers_in(folder) and not folder.exists()
