"""No packet leaves a machine's network, a machine that could let one out is not started, and nothing is left."""

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from ipaddress import IPv4Network
import os
from pathlib import Path
import signal
import subprocess
import uuid

import docker
import psutil
import pytest

from rehearsal.__main__ import main
from rehearsal.client import Rehearsal
from rehearsal.machines.namespace import Leak, Namespace
from rehearsal.machines.network import BLOCKS, FORWARDING, free_blocks
from rehearsal.machines.sweep import leftovers
from rehearsal.naming import Names
from rehearsal.settings import Settings
from tests.support.instances import Instance, launch, launch_to_build_on
from tests.support.separate_host import another_host, HERE, THERE
from tests.support.waiting import eventually

pytestmark = pytest.mark.ami

METADATA = '169.254.169.254'
SERVER = 'import http.server as h; h.ThreadingHTTPServer(("", 80), h.SimpleHTTPRequestHandler).serve_forever()'


def client_of(rehearsal: Rehearsal) -> docker.DockerClient:
    """Return a client of the engine of a rehearsal."""
    return docker.DockerClient(rehearsal.facts['engine'] or None, version='auto')


def bridge_of(rehearsal: Rehearsal) -> str:
    """Return the name of the bridge of a rehearsal's default VPC."""
    block = IPv4Network(f'{rehearsal.gateway}/16', strict=False)
    return rehearsal.settings.names.bridge(block)


@contextmanager
def forwarding(rehearsal: Rehearsal) -> Iterator[None]:
    """Forward the packets of a rehearsal's machines, for the time of the block."""
    path = Path(FORWARDING.format(bridge=bridge_of(rehearsal)))
    path.write_text('1', encoding='ascii')
    try:
        yield
    finally:
        path.write_text('0', encoding='ascii')


@contextmanager
def unfiltered(one: str, other: str) -> Iterator[None]:
    """Let all pass between two networks of this machine, for the time of the block.

    An engine that was here before may have a packet filter of its own, which lets nothing of an internal network out
    and nothing in: https://docs.docker.com/engine/network/packet-filtering-firewalls/
    """
    pairs = ((one, other), (other, one))
    rules = [['FORWARD', '--in-interface', here, '--out-interface', there, '--jump', 'ACCEPT']
             for here, there in pairs]
    # In its own table, Docker 28 drops packets to a container that come by another way than its bridge.
    rules.append(['PREROUTING', '--table', 'raw', '--in-interface', other, '--jump', 'ACCEPT'])
    with ExitStack() as stack:
        for rule in rules:
            subprocess.run(['iptables', '--wait', '--insert', *rule], check=True)
            stack.callback(subprocess.run, ['iptables', '--wait', '--delete', *rule], check=True)
        yield


@contextmanager
def namespace() -> Iterator[tuple[Namespace, int]]:
    """Give a network namespace that has nothing but a loopback, and a process in it."""
    process = subprocess.Popen(['unshare', '--net', 'sh', '-c', 'ip link set lo up; echo; exec sleep 60'],
                               stdout=subprocess.PIPE)
    assert process.stdout
    try:
        process.stdout.readline()
        yield Namespace(process.pid), process.pid
    finally:
        process.kill()
        process.communicate()


def test_an_address_that_is_not_the_namespaces_own_is_refused() -> None:
    with namespace() as (empty, process):
        subprocess.run(['nsenter', f'--net=/proc/{process}/ns/net', 'sh', '-ec',
                        'ip link add plug type veth peer name socket; ip addr add 10.0.0.1/24 dev plug; '
                        'ip link set plug up; ip link set socket up; '
                        f'ip route add {METADATA} via 10.0.0.2'], check=True)
        with pytest.raises(Leak, match=f'{METADATA} is not local'):
            empty.check_is_own(METADATA)
        empty.own(METADATA)
        empty.check_is_own(METADATA)


def test_a_way_out_is_refused_and_can_be_shut() -> None:
    with namespace() as (empty, process):
        empty.check_has_no_way_out()
        subprocess.run(['nsenter', f'--net=/proc/{process}/ns/net', 'sh', '-ec',
                        'ip link add plug type veth peer name socket; ip addr add 10.0.0.1/24 dev plug; '
                        'ip link set plug up; ip link set socket up; '
                        'ip route add default via 10.0.0.2'], check=True)
        with pytest.raises(Leak, match='a default route'):
            empty.check_has_no_way_out()
        empty.shut()
        empty.check_has_no_way_out()


def test_a_machine_is_not_started_whose_network_would_be_forwarded(rehearsal: Rehearsal) -> None:
    with forwarding(rehearsal):
        instance = launch(rehearsal)
        instance.wait_until('terminated', 30)
    reason = instance.described['StateReason']
    assert reason['Code'] == 'Server.InternalError' and 'would be forwarded' in reason['Message']
    assert 'not started: packets of the machines' in instance.console
    assert not [name for name in leftovers(client_of(rehearsal), rehearsal.settings.names)['containers']
                if instance.name in name], 'not even its card is left'
    again = launch(rehearsal)
    again.wait_until('running')
    again.terminate()


@pytest.fixture(scope='module')
def insider(rehearsal: Rehearsal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Give a machine in which a script tries to reach hosts beyond its network."""
    instance = launch_to_build_on(rehearsal, tmp_path_factory.mktemp('keys'))
    instance.run('true')
    yield instance
    instance.terminate()


def test_a_metadata_address_is_answered_in_the_machine_and_for_it_alone(
        rehearsal: Rehearsal, insider: Instance) -> None:
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 5 http://{METADATA}/latest/meta-data/"
    assert insider.run(ask) == '401'
    local = subprocess.run(['ip', 'route', 'get', METADATA], capture_output=True, text=True, check=False).stdout
    assert bridge_of(rehearsal) not in local, 'on this machine the address is none of the rehearsal'


def test_root_in_a_machine_finds_no_way_out_even_with_a_route(rehearsal: Rehearsal, insider: Instance) -> None:
    """The host beyond is reached as soon as this machine forwards, so it is really that which holds them back."""
    # curl fails where it reaches nothing, and prints 000 then.
    reach = f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 3 http://{THERE}/ || true"
    insider.run(f'sudo ip route replace default via {rehearsal.gateway}')
    with another_host() as host:
        server = subprocess.Popen([*host.prefix, 'python3', '-c', SERVER], stderr=subprocess.DEVNULL)
        back = [*host.prefix, 'ip', 'route', 'add', 'default', 'via', HERE]
        subprocess.run(back, check=True)
        cable = Path(FORWARDING.format(bridge=host.cable))
        before = cable.read_text(encoding='ascii')
        cable.write_text('1', encoding='ascii')
        try:
            eventually(lambda: subprocess.run(['curl', '-s', '--max-time', '1', f'http://{THERE}/'],
                                              capture_output=True, check=False).returncode == 0, 'it answers')
            with unfiltered(bridge_of(rehearsal), host.cable):
                assert insider.run(reach) == '000'
                with forwarding(rehearsal):
                    assert insider.run(reach) == '200', 'the test could not have failed'
        finally:
            cable.write_text(before, encoding='ascii')
            server.kill()
            server.wait()
            insider.run('sudo ip route delete default')


def test_names_beyond_the_machine_fail_at_once(insider: Instance) -> None:
    assert insider.run('timeout 2 getent hosts example.org; echo $?') == '2', 'not found, and not 124: too late'


def test_machines_of_a_vpc_reach_each_other(rehearsal: Rehearsal, insider: Instance) -> None:
    other = launch(rehearsal)
    other.wait_until('running')
    # bash fails until the other machine answers.
    greeting = f'timeout 1 bash -c "exec 3<>/dev/tcp/{other.described["PrivateIpAddress"]}/22; head -c 4 <&3" || true'
    eventually(lambda: insider.run(greeting) == 'SSH-', 'the other one answers')
    other.terminate()


def test_security_groups_decide_between_machines_and_after_a_boot_flushed_all_rules(
        rehearsal: Rehearsal, tmp_path: Path) -> None:
    ec2 = rehearsal.client('ec2')
    group = ec2.create_security_group(GroupName=f'group-{uuid.uuid4().hex[:8]}', Description='one machine')['GroupId']
    permission = {'IpProtocol': 'tcp', 'FromPort': 22, 'ToPort': 22,
                  'IpRanges': [{'CidrIp': f'{rehearsal.gateway}/32'}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    closed = launch_to_build_on(rehearsal, tmp_path, SecurityGroupIds=[group])
    try:
        other = launch_to_build_on(rehearsal, tmp_path)
        address = closed.described['PrivateIpAddress']
        greeting = f'timeout 3 bash -c "exec 3<>/dev/tcp/{address}/22; head -c 4 <&3" || true'
        closed.run('sudo apt-get update -qq && sudo apt-get install -qqy nftables > /dev/null')
        closed.run('sudo nft flush ruleset')
        assert other.run(greeting) == ''
        here = {**permission, 'IpRanges': [{'CidrIp': f'{other.described["PrivateIpAddress"]}/32'}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[here])
        eventually(lambda: other.run(greeting) == 'SSH-', 'the new rule lets it in')
    finally:
        for machine in (closed, other):
            machine.terminate()


def test_after_a_killed_server_nothing_is_left_and_others_are_left_alone(
        rehearsal: Rehearsal, insider: Instance) -> None:
    name = f'k-{uuid.uuid4().hex[:8]}'
    assert main(['up', '--name', name]) == 0
    killed = Rehearsal(Settings(name))
    engine, server, bridge = client_of(killed), psutil.Process(killed.facts['pid']), bridge_of(killed)
    instance = launch(killed)
    instance.wait_until('running')
    ami = killed.client('ec2').create_image(InstanceId=instance.name, Name='kept', NoReboot=True)['ImageId']
    eventually(lambda: len(leftovers(engine, Names(name))['images']) == 2, f'{ami} is stored')
    server.send_signal(signal.SIGKILL)
    eventually(lambda: not killed.is_up, 'it is seen')
    left = leftovers(engine, Names(name))
    assert all(left.values()), 'the kill has left nothing, so this test would have proven nothing'

    assert main(['down', '--name', name]) == 0
    assert not any(leftovers(engine, Names(name)).values())
    assert bridge not in psutil.net_if_addrs()
    assert not [process for process in psutil.process_iter(['cmdline']) if name in str(process.info['cmdline'])]
    assert insider.run('true') == '' and rehearsal.is_up


def test_the_next_one_of_the_name_sweeps_first(rehearsal: Rehearsal) -> None:
    name = f'k-{uuid.uuid4().hex[:8]}'
    assert main(['up', '--name', name]) == 0
    killed = Rehearsal(Settings(name))
    launch(killed).wait_until('running')
    os.kill(killed.facts['pid'], signal.SIGKILL)
    eventually(lambda: not killed.is_up, 'it is seen')
    with Rehearsal(Settings(name)) as again:
        assert leftovers(client_of(again), Names(name))['containers'] == []
        assert again.gateway != rehearsal.gateway, 'side by side they have networks of their own'
        launch(again).wait_until('running')


def test_a_block_that_is_taken_is_not_chosen() -> None:
    blocks = [IPv4Network('10.64.0.0/10')]
    assert list(free_blocks('any', blocks)) == []
    assert set(free_blocks('any', blocks[:0])) == set(BLOCKS)
    assert BLOCKS[3] not in free_blocks('any', [IPv4Network(f'{BLOCKS[3][77]}/32')])


def test_a_block_that_another_rehearsal_has_is_refused_by_name(rehearsal: Rehearsal,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    block = str(IPv4Network(f'{rehearsal.gateway}/16', strict=False))
    assert main(['up', '--name', f'k-{uuid.uuid4().hex[:8]}', '--vpc-cidr', block]) == 1
    assert block in capsys.readouterr().err
