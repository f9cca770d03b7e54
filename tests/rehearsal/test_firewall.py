"""Security groups decide which packets reach an instance, and which leave it."""

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
import json
import os
import subprocess
from threading import RLock
from typing import Any

from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends
import pytest

from rehearsal.api.connections import connections_of, Traffic
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.errors import RehearsalError
from rehearsal.machines.addresses import API, ARCHIVE
from rehearsal.machines.firewall import Firewall
from rehearsal.machines.namespace import Namespace
from rehearsal.machines.ruleset import ruleset
from tests.support.local_aws import SIZE
from tests.support.waiting import eventually

ANYWHERE = {'IpRanges': [{'CidrIp': '0.0.0.0/0'}]}
EVERYTHING = {'IpProtocol': '-1', **ANYWHERE}
CONNECT = 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()'


def make_group(aws: EmbeddedRehearsal, name: str) -> str:
    """Return a new security group in the default VPC, without rules."""
    ec2 = aws.client('ec2')
    group = str(ec2.create_security_group(GroupName=name, Description=name)['GroupId'])
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[EVERYTHING])
    return group


def permit(aws: EmbeddedRehearsal, direction: str, group: str, port: int, **peer: Any) -> str:
    """Return the id of a new rule of a group."""
    permission = {'IpProtocol': 'tcp', 'FromPort': port, 'ToPort': port, **peer}
    answer = getattr(aws.client('ec2'), f'authorize_security_group_{direction}')(
        GroupId=group, IpPermissions=[permission])
    return str(answer['SecurityGroupRules'][0]['SecurityGroupRuleId'])


def revoke(aws: EmbeddedRehearsal, direction: str, group: str, rule: str) -> None:
    getattr(aws.client('ec2'), f'revoke_security_group_{direction}')(GroupId=group, SecurityGroupRuleIds=[rule])


def from_group(group: str) -> dict[str, Any]:
    return {'UserIdGroupPairs': [{'GroupId': group}]}


def launch(aws: EmbeddedRehearsal, *groups: str) -> Any:
    """Return moto's record of a new instance in these groups."""
    launched = aws.client('ec2').run_instances(ImageId=aws.source_ami, InstanceType=SIZE, MinCount=1, MaxCount=1,
                                               SecurityGroupIds=groups)
    return ec2_backends[aws.account][aws.region].get_instance(launched['Instances'][0]['InstanceId'])


def filter_of(instance: Any) -> str:
    return ruleset(connections_of(instance.ec2_backend, instance))


def nets(*arguments: str) -> None:
    result = subprocess.run(['ip', *arguments], capture_output=True, text=True, check=False)
    assert not result.returncode, f'ip {" ".join(arguments)}: {result.stderr}'


class Place:
    """A network namespace with the address of an instance on a card named as in a machine."""

    def __init__(self, name: str, address: str) -> None:
        """Name a namespace, and a process in it."""
        self.name, self.address = name, address
        self.process = subprocess.Popen(['ip', 'netns', 'exec', name, 'sh', '-c', 'echo; exec sleep 600'],
                                        stdout=subprocess.PIPE)
        assert self.process.stdout
        self.process.stdout.readline()
        self.namespace = Namespace(self.process.pid)

    def reaches(self, address: str, port: int, seconds: float = 60) -> bool:
        """Return whether a connection from here is accepted within so many seconds."""
        command = ['ip', 'netns', 'exec', self.name, 'python3', '-c', CONNECT, address, str(port), str(seconds)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def misses(self, address: str, port: int) -> bool:
        """Return whether packets from here are dropped; a refusal would come at once."""
        return not self.reaches(address, port, 1)


@contextmanager
def places(*addresses: str) -> Iterator[list[Place]]:
    """Give one network namespace for each address, all on one wire."""
    if os.geteuid():
        pytest.fail('NO PACKET FILTER TESTED: network namespaces need root', pytrace=False)
    wire = f'fw{os.getpid()}'
    with ExitStack() as stack:
        nets('netns', 'add', wire)
        stack.callback(nets, 'netns', 'delete', wire)
        nets('-netns', wire, 'link', 'add', 'wire', 'type', 'bridge')
        nets('-netns', wire, 'link', 'set', 'wire', 'up')
        made = []
        for number, address in enumerate(addresses):
            name = f'{wire}-{number}'
            nets('netns', 'add', name)
            stack.callback(nets, 'netns', 'delete', name)
            nets('-netns', wire, 'link', 'add', f'port{number}', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
            nets('-netns', wire, 'link', 'set', f'port{number}', 'up', 'master', 'wire')
            nets('-netns', name, 'link', 'set', 'lo', 'up')
            nets('-netns', name, 'address', 'add', f'{address}/16', 'dev', 'eth0')
            nets('-netns', name, 'link', 'set', 'eth0', 'up')
            place = Place(name, address)
            stack.enter_context(place.process)
            stack.callback(place.process.kill)
            made.append(place)
        yield made


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    firewall = Firewall(RLock())
    yield firewall
    firewall.close()


def test_a_connection_needs_a_rule_at_both_ends_and_answers_need_none(
        aws: EmbeddedRehearsal, firewall: Firewall) -> None:
    front, back = make_group(aws, 'front'), make_group(aws, 'back')
    out = permit(aws, 'egress', front, 8000, **from_group(back))
    into = permit(aws, 'ingress', back, 8000, **from_group(front))
    sender, receiver = launch(aws, front), launch(aws, back)
    with places(sender.private_ip, receiver.private_ip) as (one, other):
        for place, instance in ((one, sender), (other, receiver)):
            firewall.protect(place.namespace, lambda instance=instance: filter_of(instance))  # type: ignore[misc]
        with other.namespace.listen(other.address, 8000), other.namespace.listen(other.address, 8001):
            assert one.reaches(other.address, 8000)
            assert one.misses(other.address, 8001), 'no rule is for this port'
            with one.namespace.listen(one.address, 8000):
                assert other.misses(one.address, 8000), 'a rule is for one direction'
            revoke(aws, 'ingress', back, into)
            firewall.renew()
            assert one.misses(other.address, 8000), 'the receiver has no rule'
            permit(aws, 'ingress', back, 8000, **from_group(front))
            firewall.renew()
            assert one.reaches(other.address, 8000)
            revoke(aws, 'egress', front, out)
            firewall.renew()
            assert one.misses(other.address, 8000), 'the sender has no rule'


def test_a_rule_that_refers_to_a_group_follows_the_members_of_the_group(
        aws: EmbeddedRehearsal, firewall: Firewall) -> None:
    front, back = make_group(aws, 'front'), make_group(aws, 'back')
    permit(aws, 'ingress', back, 8000, **from_group(front))
    receiver, stranger = launch(aws, back), launch(aws, make_group(aws, 'strange'))
    with places(stranger.private_ip, receiver.private_ip) as (one, other):
        firewall.protect(other.namespace, lambda: filter_of(receiver))
        with other.namespace.listen(other.address, 8000):
            assert one.misses(other.address, 8000)
            aws.client('ec2').modify_instance_attribute(InstanceId=stranger.id, Groups=[front])
            # The thread of the firewall notices it by itself.
            eventually(lambda: one.reaches(other.address, 8000, 1), 'the new member is let in')
            aws.client('ec2').terminate_instances(InstanceIds=[stranger.id])
            eventually(lambda: one.misses(other.address, 8000), 'a terminated instance is no member')


def test_packets_for_a_port_that_the_engine_publishes_are_filtered_before_it_redirects_them(
        aws: EmbeddedRehearsal, firewall: Firewall) -> None:
    front, back = make_group(aws, 'front'), make_group(aws, 'back')
    rule = permit(aws, 'ingress', back, 80, **from_group(front))
    sender, receiver = launch(aws, front), launch(aws, back)
    permit(aws, 'egress', front, 80, **ANYWHERE)
    with places(sender.private_ip, receiver.private_ip) as (one, other):
        firewall.protect(other.namespace, lambda: filter_of(receiver))
        redirect = ('add table ip engine; add chain ip engine in { type nat hook prerouting priority -100; }; '
                    'add rule ip engine in tcp dport 80 redirect to :8000')
        subprocess.run(['ip', 'netns', 'exec', other.name, 'nft', redirect], check=True)
        with other.namespace.listen('0.0.0.0', 8000):
            assert one.reaches(other.address, 80)
            assert one.misses(other.address, 8000)
            revoke(aws, 'ingress', back, rule)
            firewall.renew()
            assert one.misses(other.address, 80)


def test_a_machine_cannot_remove_its_filter_and_the_filter_ends_with_the_protection(
        aws: EmbeddedRehearsal, firewall: Firewall) -> None:
    group = make_group(aws, 'closed')
    instance = launch(aws, group)
    with places('172.31.255.9', instance.private_ip) as (one, other):
        remove = firewall.protect(other.namespace, lambda: filter_of(instance))
        with other.namespace.listen(other.address, 8000):
            for command in ('flush ruleset', 'delete table inet rehearsal'):
                # The first one is the beginning of the rules of the AMI, which a machine loads when it boots.
                subprocess.run(['ip', 'netns', 'exec', other.name, 'nft', command], check=False, capture_output=True)
                assert one.misses(other.address, 8000)
            remove()
            assert one.reaches(other.address, 8000)


def test_a_filter_that_nft_refuses_is_an_error_and_releases_the_namespace(firewall: Firewall) -> None:
    with places('172.31.0.9') as (place,), pytest.raises(RehearsalError, match='nft refuses a packet filter: .*'):
        firewall.protect(place.namespace, lambda: 'table inet {')


def test_the_doors_to_aws_and_to_debian_close_and_the_metadata_service_stays(
        aws: EmbeddedRehearsal, firewall: Firewall) -> None:
    group = make_group(aws, 'closed')
    instance = launch(aws, group)
    with places(instance.private_ip) as (place,):
        for address in (API, ARCHIVE, '169.254.169.254', '169.254.169.253'):
            place.namespace.own(address)
        firewall.protect(place.namespace, lambda: filter_of(instance))
        with ExitStack() as stack:
            for address in (API, ARCHIVE, '169.254.169.254', '169.254.169.253'):
                stack.enter_context(place.namespace.listen(address, 80))
            assert place.reaches('169.254.169.254', 80) and place.reaches('169.254.169.253', 80)
            assert place.misses(API, 80) and place.misses(ARCHIVE, 80)
            permit(aws, 'egress', group, 443, **ANYWHERE)
            firewall.renew()
            assert place.reaches(API, 80) and place.misses(ARCHIVE, 80)


def make_endpoint(aws: EmbeddedRehearsal, group: str) -> None:
    ec2 = aws.client('ec2')
    subnet = ec2.describe_subnets()['Subnets'][0]
    ec2.create_vpc_endpoint(VpcId=subnet['VpcId'], ServiceName=f'com.amazonaws.{aws.region}.ssm',
                            VpcEndpointType='Interface', SubnetIds=[subnet['SubnetId']], SecurityGroupIds=[group])


@pytest.mark.parametrize('missing', ['egress', 'ingress', 'endpoint'])
def test_an_endpoint_of_aws_answers_only_by_a_rule_of_the_instance_and_one_of_the_endpoint(
        aws: EmbeddedRehearsal, missing: str) -> None:
    own, doors = make_group(aws, 'own'), make_group(aws, 'doors')
    if missing != 'endpoint':
        make_endpoint(aws, doors)
    rules = {'egress': (own, doors), 'ingress': (doors, own)}
    for direction, (group, peer) in rules.items():
        if direction != missing:
            permit(aws, direction, group, 443, **from_group(peer))
    instance = launch(aws, own)
    assert not connections_of(instance.ec2_backend, instance).has_api
    if missing == 'endpoint':
        make_endpoint(aws, doors)
    else:
        group, peer = rules[missing]
        permit(aws, missing, group, 443, **from_group(peer))
    assert connections_of(instance.ec2_backend, instance).has_api


def test_the_rules_of_a_database_refuse_an_instance_whose_own_rules_let_it_out(aws: EmbeddedRehearsal) -> None:
    own, database = make_group(aws, 'own'), make_group(aws, 'database')
    permit(aws, 'egress', own, 5432, **ANYWHERE)
    aws.client('rds').create_db_instance(
        DBInstanceIdentifier='one', DBInstanceClass='db.t4g.micro', Engine='postgres', AllocatedStorage=20,
        MasterUsername='owner', ManageMasterUserPassword=True, VpcSecurityGroupIds=[database], Port=5432)
    (record,) = rds_backends[aws.account][aws.region].databases.values()
    record.rehearsal_address = '172.31.0.1'  # type: ignore[attr-defined]
    instance = launch(aws, own)
    assert connections_of(instance.ec2_backend, instance).refused == (('172.31.0.1', 5432),)
    assert 'ip daddr 172.31.0.1 tcp dport 5432 drop' in filter_of(instance)
    permit(aws, 'ingress', database, 5432, **from_group(own))
    assert connections_of(instance.ec2_backend, instance).refused == ()
    assert 'tcp dport 5432 drop' not in filter_of(instance)


@pytest.mark.parametrize('missing', ['egress', 'ingress'])
def test_requests_of_a_load_balancer_need_a_rule_at_both_ends(aws: EmbeddedRehearsal, missing: str) -> None:
    own, front = make_group(aws, 'own'), make_group(aws, 'front')
    subnets = [subnet['SubnetId'] for subnet in aws.client('ec2').describe_subnets()['Subnets'][:2]]
    aws.client('elbv2').create_load_balancer(Name='front', Subnets=subnets, SecurityGroups=[front])
    assert len(elbv2_backends[aws.account][aws.region].load_balancers) == 1
    rules = {'egress': (front, own), 'ingress': (own, front)}
    instance = launch(aws, own)
    for direction, (group, peer) in rules.items():
        if direction != missing:
            permit(aws, direction, group, 8000, **from_group(peer))
    assert connections_of(instance.ec2_backend, instance).ingress == ()
    group, peer = rules[missing]
    permit(aws, missing, group, 8000, **from_group(peer))
    (permission,) = connections_of(instance.ec2_backend, instance).ingress
    assert permission.traffic == Traffic('tcp', 8000, 8000)
    block = aws.client('ec2').describe_vpcs()['Vpcs'][0]['CidrBlock']
    assert [str(peer) for peer in permission.peers] == [block.replace('.0.0/16', '.0.1/32')]


def test_a_rule_with_a_prefix_list_permits_the_blocks_of_the_list(aws: EmbeddedRehearsal) -> None:
    ec2, group = aws.client('ec2'), make_group(aws, 'own')
    made = ec2.create_managed_prefix_list(PrefixListName='offices', MaxEntries=5, AddressFamily='IPv4', Entries=[
        {'Cidr': '192.0.2.0/24'}, {'Cidr': '198.51.100.7/32'}])['PrefixList']['PrefixListId']
    permit(aws, 'ingress', group, 22, PrefixListIds=[{'PrefixListId': made}])
    instance = launch(aws, group)
    assert 'ip saddr 192.0.2.0/24 tcp dport 22-22 accept' in filter_of(instance)
    assert 'ip saddr 198.51.100.7/32 tcp dport 22-22 accept' in filter_of(instance)


def test_the_default_group_lets_its_members_reach_each_other_and_everything_else(aws: EmbeddedRehearsal) -> None:
    # https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
    one, other = (launch(aws) for _ in range(2))
    connections = connections_of(one.ec2_backend, one)
    assert any(permission.admits(other.private_ip, Traffic('tcp', 22, 22)) for permission in connections.ingress)
    assert not any(permission.admits('172.31.0.1', Traffic('tcp', 22, 22)) for permission in connections.ingress)
    assert connections.has_api and connections.has_internet
    ec2 = aws.client('ec2')
    (group,) = ec2.describe_security_groups()['SecurityGroups']
    ec2.revoke_security_group_ingress(GroupId=group['GroupId'], IpPermissions=group['IpPermissions'])
    assert connections_of(one.ec2_backend, one).ingress == ()


@pytest.mark.parametrize('place', ['request', 'request card', 'template', 'template card'])
def test_an_instance_in_a_named_group_is_not_in_the_default_one(aws: EmbeddedRehearsal, place: str) -> None:
    ec2, group = aws.client('ec2'), make_group(aws, 'own')
    named: dict[str, Any] = {'SecurityGroupIds': [group]}
    if 'card' in place:
        named = {'NetworkInterfaces': [{'DeviceIndex': 0, 'Groups': [group]}]}
    if 'template' in place:
        ec2.create_launch_template(LaunchTemplateName='one', LaunchTemplateData=named)
        named = {'LaunchTemplate': {'LaunchTemplateName': 'one'}}
    launched = ec2.run_instances(ImageId=aws.source_ami, InstanceType=SIZE, MinCount=1, MaxCount=1, **named)
    (card,) = launched['Instances'][0]['NetworkInterfaces']
    assert [each['GroupId'] for each in card['Groups']] == [group]


@pytest.mark.parametrize(('protocol', 'first', 'last', 'statement'), [
    ('icmp', -1, -1, 'meta l4proto icmp accept'), ('icmp', 8, -1, 'icmp type 8 accept'),
    ('udp', 53, 60, 'udp dport 53-60 accept'), ('50', -1, -1, 'meta l4proto 50 accept'), ('-1', -1, -1, '/0 accept')])
def test_every_kind_of_rule_becomes_a_statement_that_nft_accepts(
        aws: EmbeddedRehearsal, firewall: Firewall, protocol: str, first: int, last: int, statement: str) -> None:
    group = make_group(aws, 'kinds')
    aws.client('ec2').authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {'IpProtocol': protocol, 'FromPort': first, 'ToPort': last, **ANYWHERE}])
    text = filter_of(launch(aws, group))
    assert statement in text
    with places('172.31.0.9') as (place,):
        firewall.protect(place.namespace, lambda: text)
        listed = subprocess.run(['ip', 'netns', 'exec', place.name, 'nft', '--json', 'list', 'ruleset'],
                                capture_output=True, text=True, check=True).stdout
        chains = {each['chain']['name'] for each in json.loads(listed)['nftables'] if 'chain' in each}
        assert chains == {'ingress', 'egress', 'doors'}
