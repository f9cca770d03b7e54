"""SSH access to the instance of a bake, determined before anything starts."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import re
from threading import Thread
from typing import Any

import pytest

from release import ssh_access
from release.aws import Aws
from release.errors import NotReady
from tests.support.account import Account
from tests.support.checkout import Checkout
from tests.support.server import ROOT

ADDRESS = '198.51.99.7'
OWN_ONLY = {'ssh_source_cidrs': [f'{ADDRESS}/32']}
NO_ADDRESS = {'no address': '<html>', 'an address of IPv6': '2a00::1', 'a private address': '10.0.0.7'}
Answer = Callable[[str], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """Give a setter of the answer of a service that replaces AWS's checkip."""
    body = ['']

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{body[0]}\n'.encode())

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    with ThreadingHTTPServer(('127.0.0.1', 0), Service) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(ssh_access, 'ADDRESS_SERVICE', f'http://127.0.0.1:{server.server_port}')
        yield lambda text: body.__setitem__(0, text)
        server.shutdown()


@pytest.fixture
def aws(account: Account, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Give the calls to the account of the test."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    return Aws(account.environment)


def subnet(account: Account, public: bool) -> str:
    ec2 = account.client('ec2')
    variables = str(ec2.describe_subnets()['Subnets'][0]['SubnetId'])
    ec2.modify_subnet_attribute(SubnetId=variables, MapPublicIpOnLaunch={'Value': public})
    return variables


def test_by_default_only_the_own_public_address_may_connect(aws: Aws, answer: Answer) -> None:
    answer(ADDRESS)
    assert ssh_access.variables(aws, {}, '') == OWN_ONLY


def test_a_private_interface_needs_no_public_address(aws: Aws) -> None:
    variables = ssh_access.variables(aws, {ssh_access.INTERFACE: 'private_ip'}, '')
    assert variables == {'ssh_source_cidrs': list(ssh_access.PRIVATE_CIDRS)}


def test_addresses_in_the_environment_stay(aws: Aws) -> None:
    assert ssh_access.variables(aws, {ssh_access.CIDRS: '["198.51.100.0/24"]'}, '') == {}


@pytest.mark.parametrize('kind', NO_ADDRESS)
def test_an_answer_that_is_no_public_address_is_refused(aws: Aws, answer: Answer, kind: str) -> None:
    answer(NO_ADDRESS[kind])
    with pytest.raises(NotReady, match=f'{re.escape(NO_ADDRESS[kind])}.*PKR_VAR_ssh_source_cidrs'):
        ssh_access.variables(aws, {}, '')


def test_a_subnet_without_public_addresses_is_refused_by_its_name(aws: Aws, account: Account, answer: Answer) -> None:
    answer(ADDRESS)
    name = subnet(account, public=False)
    with pytest.raises(NotReady, match=f'{name} gives its instances no public address'):
        ssh_access.variables(aws, {}, name)
    assert ssh_access.variables(aws, {ssh_access.INTERFACE: 'private_ip'}, name)
    assert ssh_access.variables(aws, {}, subnet(account, public=True)) == OWN_ONLY


def test_a_bake_that_cannot_find_its_address_ends_before_it_starts_anything(
        account: Account, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, account)
    # A proxy that refuses, so that the service is unreachable wherever this runs.
    result = checkout.bake(PKR_VAR_ssh_interface='', https_proxy='http://127.0.0.1:9')
    assert result.code == 3, result
    assert 'the public address of this machine is unknown' in result.err
    assert account.client('ec2').describe_instances()['Reservations'] == []


def test_the_document_the_template_and_the_tool_have_the_same_default() -> None:
    template = (ROOT / 'packer/ami.pkr.hcl').read_text(encoding='utf-8')
    block = template[template.index('variable "ssh_interface"'):]
    (in_template,) = re.findall(r'^  default += "(.*)"$', block[:block.index('\n}\n')], re.MULTILINE)
    document = (ROOT / 'docs/operations.md').read_text(encoding='utf-8')
    (in_document,) = re.findall(r'^\| `PKR_VAR_ssh_interface` \| `(.*?)` \|', document, re.MULTILINE)
    assert in_template == in_document == ssh_access.DEFAULT


def test_the_defaults_of_variables_in_the_document_are_those_of_the_template() -> None:
    template = (ROOT / 'packer/ami.pkr.hcl').read_text(encoding='utf-8')
    defaults = dict(re.findall(r'^variable "(\w+)" \{\n(?:  .*\n)*?  default += (.*)$', template, re.MULTILINE))
    document = (ROOT / 'docs/operations.md').read_text(encoding='utf-8')
    named = dict(re.findall(r'^\| `PKR_VAR_([a-z_]+)` \| `(.*?)` \|', document, re.MULTILINE))
    assert named
    assert {name: json.dumps(value) for name, value in named.items()}.items() <= defaults.items()
