"""The metadata of an instance, and the token that the metadata service demands first."""

from collections.abc import Callable
from datetime import datetime, timezone
import json
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from rehearsal.api.permissions.principals import instance_key
from rehearsal.machines.metadata.service import LIFETIME, LONGEST, MetadataService, TOKEN
from rehearsal.machines.metadata.tree import instance_tree

KEY = 'ssh-ed25519 AAAA somebody'
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now


def instance(**changes: Any) -> Any:
    """Return an instance as moto keeps one, with the attributes that its metadata has."""
    subnet = SimpleNamespace(cidr_block='10.64.0.0/20', vpc_id='vpc-1')
    launched = SimpleNamespace(
        id='i-1', image_id='ami-1', instance_type='t3.small', private_ip='10.64.0.4', architecture='x86_64',
        private_dns_name='ip-10-64-0-4.ec2.internal', owner_id='123456789012', subnet_id='subnet-1', lifecycle=None,
        ami_launch_index=0, region_name='us-east-1', launch_time=NOW, key_name='somebody',
        user_data='IyEvYmluL3NoCg==', placement=SimpleNamespace(zone='us-east-1a'),
        nics={0: SimpleNamespace(id='eni-1', mac_address='02:00:00:00:00:01', subnet=subnet)},
        security_groups=[SimpleNamespace(id='sg-1', name='one'), SimpleNamespace(id='sg-2', name='two')],
        iam_instance_profile={'Arn': 'arn:aws:iam::1:instance-profile/p'},
        metadata_options=SimpleNamespace(instance_metadata_tags='enabled'),
        get_tags=lambda: [{'key': 'Name', 'value': 'one'}])
    launched.__dict__.update(changes)
    reservation = SimpleNamespace(id='r-1', instances=[launched])
    launched.ec2_backend = SimpleNamespace(reservations={'r-1': reservation})
    return launched


def service(clock: Clock | None = None, tokens: str = 'required', endpoint: str = 'enabled', **changes: Any) -> Client:
    """Return a browser at the metadata service of an instance."""
    tree = instance_tree(instance(**changes), public_key=KEY, role='r', lifecycle_state='InService', now=NOW)
    options = SimpleNamespace(http_tokens=tokens, http_endpoint=endpoint)
    return Client(MetadataService(lambda: tree, lambda: options, clock or Clock()))


def fetch_token(client: Client, lifetime: int = 60) -> str:
    answer = client.put('/latest/api/token', headers={LIFETIME: str(lifetime)})
    assert answer.status_code == 200
    return answer.text


def read(client: Client, path: str) -> TestResponse:
    return client.get(path, headers={TOKEN: fetch_token(client)})


def test_without_a_token_nothing_is_answered() -> None:
    client = service()
    assert client.get('/latest/meta-data/instance-id').status_code == 401
    assert client.get('/latest/meta-data/instance-id', headers={TOKEN: 'made up'}).status_code == 401
    assert read(client, '/latest/meta-data/instance-id').text == 'i-1'


def test_where_tokens_are_optional_none_is_needed_but_a_wrong_one_is_refused() -> None:
    client = service(tokens='optional')
    assert client.get('/latest/meta-data/instance-id').text == 'i-1'
    assert client.get('/latest/meta-data/instance-id', headers={TOKEN: 'made up'}).status_code == 401


def test_a_token_ends_when_its_time_is_over() -> None:
    clock = Clock()
    client = service(clock)
    token = fetch_token(client, 60)
    clock.now = 59
    assert client.get('/latest/meta-data/ami-id', headers={TOKEN: token}).status_code == 200
    clock.now = 60
    assert client.get('/latest/meta-data/ami-id', headers={TOKEN: token}).status_code == 401


@pytest.mark.parametrize('lifetime', ['', '0', '-1', 'x', str(LONGEST + 1), '1.5', '9' * 30])
def test_a_token_of_no_possible_lifetime_is_refused(lifetime: str) -> None:
    headers = {LIFETIME: lifetime} if lifetime else {}
    assert service().put('/latest/api/token', headers=headers).status_code == 400


def test_a_token_names_its_lifetime() -> None:
    assert service().put('/latest/api/token', headers={LIFETIME: str(LONGEST)}).headers[LIFETIME] == str(LONGEST)


def test_a_request_through_a_proxy_gets_no_token() -> None:
    headers = {LIFETIME: '60', 'X-Forwarded-For': '192.0.2.1'}
    assert service().put('/latest/api/token', headers=headers).status_code == 403


def test_a_service_that_is_turned_off_answers_nothing() -> None:
    client = service(endpoint='disabled')
    assert client.put('/latest/api/token', headers={LIFETIME: '60'}).status_code == 403
    assert client.get('/latest/meta-data/').status_code == 403


def test_nothing_can_be_written() -> None:
    client = service()
    assert client.post('/latest/meta-data/ami-id', headers={TOKEN: fetch_token(client)}).status_code == 405


@pytest.mark.parametrize(('path', 'text'), [
    ('ami-id', 'ami-1'), ('local-ipv4', '10.64.0.4'), ('instance-type', 't3.small'), ('reservation-id', 'r-1'),
    ('hostname', 'ip-10-64-0-4.ec2.internal'), ('placement/availability-zone', 'us-east-1a'),
    ('placement/region', 'us-east-1'), ('mac', '02:00:00:00:00:01'), ('tags/instance', 'Name'),
    ('tags/instance/Name', 'one'), ('public-keys/', '0=somebody'), ('public-keys/0/openssh-key', KEY),
    ('public-keys/0', 'openssh-key'), ('security-groups', 'one\ntwo'), ('iam/security-credentials/', 'r'),
    ('network/interfaces/macs/', '02:00:00:00:00:01/'), ('autoscaling/target-lifecycle-state', 'InService'),
    ('network/interfaces/macs/02:00:00:00:00:01/vpc-id', 'vpc-1'), ('instance-life-cycle', 'on-demand')])
@pytest.mark.parametrize('version', ['latest', '2021-03-23', '2009-04-04'])
def test_it_answers_as_ec2_does(version: str, path: str, text: str) -> None:
    assert read(service(), f'/{version}/meta-data/{path}').text == text


@pytest.mark.parametrize('path', ['/latest/meta-data/none', '/latest/meta-data/ami-id/more', '/latest/api/token',
                                  '/newest/meta-data/ami-id', '/latest/meta-data/../user-data'])
def test_an_unknown_path_is_not_found(path: str) -> None:
    assert read(service(), path).status_code == 404


@pytest.mark.parametrize(('changes', 'path'), [
    ({'key_name': None}, 'public-keys/'), ({'iam_instance_profile': None}, 'iam/'),
    ({'metadata_options': SimpleNamespace(instance_metadata_tags='disabled')}, 'tags/')])
def test_a_category_that_an_instance_lacks_is_not_found(changes: dict[str, Any], path: str) -> None:
    assert read(service(**changes), f'/latest/meta-data/{path}').status_code == 404
    assert path not in read(service(**changes), '/latest/meta-data/').text.splitlines()


def test_an_instance_of_no_group_has_no_lifecycle_state() -> None:
    tree = instance_tree(instance(), public_key=KEY, role=None, lifecycle_state=None, now=NOW)
    assert 'autoscaling' not in tree['meta-data'] and 'iam' not in tree['meta-data']


def test_user_data_are_returned_unchanged() -> None:
    assert read(service(), '/latest/user-data').data == b'#!/bin/sh\n'
    assert read(service(user_data='/wAf'), '/latest/user-data').data == b'\xff\x00\x1f'
    assert read(service(user_data=None), '/latest/user-data').status_code == 404


def test_credentials_are_of_the_profile_and_have_time_left() -> None:
    client = service()
    credentials = json.loads(read(client, '/latest/meta-data/iam/security-credentials/r').text)
    assert credentials['Code'] == 'Success'
    assert credentials['Expiration'] == '2026-01-02T09:04:05Z'
    about = json.loads(read(client, '/latest/meta-data/iam/info').text)
    assert about['InstanceProfileArn'] == 'arn:aws:iam::1:instance-profile/p'


def test_the_identity_document_names_instance_account_and_region() -> None:
    document = json.loads(read(service(), '/latest/dynamic/instance-identity/document').text)
    facts = [document[name] for name in ('instanceId', 'accountId', 'region', 'privateIp', 'pendingTime')]
    assert facts == ['i-1', '123456789012', 'us-east-1', '10.64.0.4', '2026-01-02T03:04:05Z']


def test_aws_own_library_gets_its_credentials_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.utils import InstanceMetadataFetcher  # its own HTTP is replaced, nothing of its logic
    client = service()
    monkeypatch.setattr('botocore.httpsession.URLLib3Session.send', sending(client))
    credentials = InstanceMetadataFetcher(num_attempts=1).retrieve_iam_role_credentials()
    assert (credentials['role_name'], credentials['access_key']) == ('r', instance_key('i-1'))


def sending(client: Client) -> Callable[..., Any]:
    def send(session: Any, request: Any) -> Any:
        answer = client.open(request.url.partition('169.254.169.254')[2], method=request.method,
                             headers=dict(request.headers))
        return SimpleNamespace(status_code=answer.status_code, text=answer.text, content=answer.data)
    return send
