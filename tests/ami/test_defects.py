"""Defects of an AMI: `release verify` names each, and the AMI is not released."""

from collections.abc import Iterator
import re

import pytest

from tests.support.checkout import Ended
from tests.support.waiting import eventually
from tests.support.workshop import BAKE_SECONDS, Workshop

pytestmark = [pytest.mark.ami, pytest.mark.timeout(BAKE_SECONDS + 300)]

UNITS = '/etc/systemd/system'
NOT_VERIFIED = 6
# A copy of a machine that has run would have its id; in the AMI the id is empty.
NO_MACHINE_ID = 'echo uninitialized > /etc/machine-id'
# Changes the application, and makes image.json name the changed image.
CHANGED_APPLICATION = f"""
image=$(python3 -c 'import json; print(json.load(open("/etc/visitors/image.json"))["image"])')
docker create --name changed "$image"
docker cp changed:/app/visitors/health.py /root/health.py
sed -i 's/ 200 if verdict.ready else 503/ 503/' /root/health.py
docker cp /root/health.py changed:/app/visitors/health.py
docker cp changed:/app/build.json /root/build.json
sed -i 's/+build[.][0-9]*/+build.666/' /root/build.json
docker cp /root/build.json changed:/app/build.json
docker commit changed "$image"
docker rm changed
sed -i "s/sha256:[0-9a-f]*/$(docker image inspect --format='{{{{.Id}}}}' "$image")/" /etc/visitors/image.json
{NO_MACHINE_ID}
"""
# Defects of one copy, all at once; it boots all the same, so every check finds its own.
CARELESS = {
    'a leftover host key': (
        "ssh-keygen -A; echo 'ssh_deletekeys: false' > /etc/cloud/cloud.cfg.d/99-kept.cfg",
        'host-keys: .*ssh_host_ed25519_key.* came with the AMI'),
    'a stray authorized key': (
        "install -d -m 0700 /root/.ssh; echo 'ssh-ed25519 AAAAC3NzaC1lZDI1 stray' > /root/.ssh/authorized_keys",
        'authorized-keys: root has keys in /root/.ssh/authorized_keys'),
    'the id of the machine that it was made on': ('true', 'machine-id: /etc/machine-id came with the AMI'),
    'a secret that everybody can read': (
        'echo something > /etc/visitors/database.key; chmod 0644 /etc/visitors/database.key',
        r'readable-secrets: /etc/visitors/database.key is world-readable \(mode 0644\)'),
    'an account with a password': ("usermod --password '$6$x$y' root", 'passwords: root can sign in with a password'),
    'a unit that is enabled': (
        'systemctl add-wants multi-user.target visitors-token.timer',
        'enabled-units: visitors-token.timer is enabled by /etc/systemd/system/multi-user.target.wants/'),
    'a broken order of units': (
        f'sed -i "s/ visitors-logs.service$//" {UNITS}/visitors-config.service',
        'unit-order: visitors-config.service is not ordered after visitors-logs.service'),
    'a packet filter without rules': (
        ': > /etc/nftables.conf', 'metadata: the application reaches 169.254.169.254'),
    'a unit that fails': (
        f'printf "[Service]\\nExecStart=/bin/false\\n" > {UNITS}/oops.service; '
        'systemctl add-wants multi-user.target oops.service', 'failed-units: oops.service failed'),
    'SSH that takes passwords': (
        'echo PasswordAuthentication yes > /etc/ssh/sshd_config.d/00-open.conf; systemctl enable ssh.service',
        'ssh: SSH is on with passwordauthentication'),
}
# Defects that keep a machine from serving, each in a copy of its own, with the message for it.
FATAL = {
    'a missing image': (
        f'docker image rm --force $(docker image ls --quiet --all); {NO_MACHINE_ID}',
        'migrate: image .*: .*No such image'),
    'another image than the one that was baked': (
        f'sed -i "s/sha256:......../sha256:00000000/" /etc/visitors/image.json; {NO_MACHINE_ID}',
        'migrate: image .* has the id sha256:[0-9a-f]{64}, and not sha256:00000000'),
    'an engine that is off': (
        f'systemctl disable docker.service docker.socket; systemctl mask docker.service; {NO_MACHINE_ID}',
        'migrate: image .*: .*Cannot connect to the Docker daemon'),
    'a start before the user data': (
        f'systemctl enable visitors.target; {NO_MACHINE_ID}',
        # Timing decides whether every step ends before the user data come, only the first one does and the step failed
        # reads them, or they come in time for the self-test.
        'ended without a verdict of its self-test|config: /etc/visitors/instance.env: No such file or directory|'
        'enabled-units: visitors.target was enabled in the AMI, by /etc/'),
}


@pytest.fixture(scope='module')
def careless(workshop: Workshop, released: str) -> Ended:
    """Give the output of `release verify` for a copy with every defect that does not prevent its boot."""
    ami = workshop.edited(released, 'careless', '\n'.join(result for result, _ in CARELESS.values()))
    return workshop.release('verify', ami)


@pytest.fixture(scope='module')
def changed(workshop: Workshop, released: str) -> Iterator[tuple[str, Ended]]:
    """Give an AMI with another application, and the output of `release verify` for it."""
    ami = workshop.edited(released, 'changed', CHANGED_APPLICATION)
    yield ami, workshop.release('verify', ami)


@pytest.mark.parametrize('defect', CARELESS)
def test_verify_names(careless: Ended, defect: str) -> None:
    assert careless.code == NOT_VERIFIED, careless.err
    assert re.search(CARELESS[defect][1], careless.err), careless.err


def test_verify_names_nothing_else(careless: Ended) -> None:
    assert len(re.findall(r'^ +[a-z-]+: ', careless.err, re.MULTILINE)) == len(CARELESS), careless.err


def test_verify_names_a_health_path_that_fails_and_a_wrong_version(changed: tuple[str, Ended]) -> None:
    _, result = changed
    assert result.code == NOT_VERIFIED, result.err
    assert re.search('readyz: .*503', result.err), result.err
    assert re.search(r'version: /version answers .*\+build.666, image.json has', result.err), result.err


def test_an_ami_that_failed_is_not_released_and_its_tag_has_the_checks(
        workshop: Workshop, changed: tuple[str, Ended]) -> None:
    ami, _ = changed
    tags = workshop.tags(ami)
    assert tags['Released'] == 'false'
    assert tags['Verified'].startswith('failed ') and '+build.666' in tags['Verified']


@pytest.mark.parametrize('defect', FATAL)
def test_verify_names_the_reason_why_a_machine_cannot_serve(workshop: Workshop, released: str, defect: str) -> None:
    commands, words = FATAL[defect]
    result = workshop.release('verify', workshop.edited(released, defect.replace(' ', '-'), commands))
    assert result.code == NOT_VERIFIED, result.err
    assert re.search(words, result.err), result.err


def test_no_machine_is_left_of_the_copies_and_no_action_was_missing(workshop: Workshop) -> None:
    eventually(lambda: not workshop.leftovers(), 'nothing is left')
    assert workshop.cloud.gaps() == []
