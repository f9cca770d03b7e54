"""The DNS server of a rehearsal, the names that it knows, and programs that see them."""

from dataclasses import dataclass, field
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from dnslib import DNSRecord, RCODE
from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends
import pytest

from rehearsal.authority import Authority
from rehearsal.client import Rehearsal
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.errors import RehearsalError
from rehearsal.names.programs import RESOLV_CONF, run
from rehearsal.names.resolver import answer, local_address, Resolver
from rehearsal.names.sources import address_of
from rehearsal.names.zones import address_in
from tests.support.server import ROOT

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason='a DNS server at port 53 and mount namespaces need root')


@dataclass(frozen=True)
class Record:
    """A record of a hosted zone, as moto keeps it."""

    name: str
    type: str
    records: list[str] = field(default_factory=list)
    alias_target: dict[str, str] | None = None


def question(name: str, kind: str = 'A') -> bytes:
    return bytes(DNSRecord.question(name, kind).pack())


def failing(name: str) -> str | None:
    raise ValueError(name)


@pytest.mark.parametrize(('name', 'kind', 'code', 'addresses'), [
    ('localhost', 'A', RCODE.NOERROR, ['127.0.0.1']),
    ('123456789012.localhost', 'A', RCODE.NOERROR, ['127.0.0.1']),
    ('BUCKET.LOCALHOST.', 'A', RCODE.NOERROR, ['127.0.0.1']),
    ('bucket.localhost', 'AAAA', RCODE.NOERROR, []),
    ('localhost.example.com', 'A', RCODE.NXDOMAIN, []),
])
def test_the_names_of_the_api_lead_to_this_machine(name: str, kind: str, code: int, addresses: list[str]) -> None:
    reply = DNSRecord.parse(answer(question(name, kind), local_address))
    assert reply.header.rcode == code
    assert [str(record.rdata) for record in reply.rr] == addresses


def test_an_error_while_answering_is_a_failure_and_not_silence() -> None:
    reply = DNSRecord.parse(answer(question('page.example.com'), failing))
    assert reply.header.rcode == RCODE.SERVFAIL
    assert str(reply.q.qname) == 'page.example.com.'


def test_a_malformed_question_is_answered_as_malformed() -> None:
    reply = answer(b'\x12\x34' + b'\xff' * 10, local_address)
    assert reply and DNSRecord.parse(reply).header.rcode == RCODE.FORMERR
    assert DNSRecord.parse(reply).header.id == 0x1234
    assert answer(b'\x12', local_address) is None


def test_a_name_is_followed_over_aliases_and_other_names_to_one_of_aws() -> None:
    records = [Record('page.example.com.', 'A', alias_target={'DNSName': 'Balancer.elb.amazonaws.com.'}),
               Record('www.example.com.', 'CNAME', ['page.example.com.']),
               Record('plain.example.com.', 'A', ['192.0.2.7'])]
    own = {'balancer.elb.amazonaws.com': '127.0.70.1'}
    assert address_in('www.example.com', records, own) == '127.0.70.1'
    assert address_in('plain.example.com', records, own) == '192.0.2.7'
    assert address_in('absent.example.com', records, own) is None


def test_a_circle_of_names_ends() -> None:
    records = [Record('a.example.com.', 'CNAME', ['b.example.com.']),
               Record('b.example.com.', 'CNAME', ['a.example.com.'])]
    assert address_in('a.example.com', records, {}) is None


def test_the_name_of_a_load_balancer_or_database_leads_to_its_server_once_it_has_one(
        aws: EmbeddedRehearsal) -> None:
    ec2, rds, elbv2 = aws.client('ec2'), aws.client('rds'), aws.client('elbv2')
    rds.create_db_instance(DBInstanceIdentifier='visitors', DBInstanceClass='db.t4g.micro', Engine='postgres')
    subnets = [subnet['SubnetId'] for subnet in ec2.describe_subnets()['Subnets'][:2]]
    (balancer,) = elbv2.create_load_balancer(Name='Visitors', Subnets=subnets)['LoadBalancers']
    (database,) = rds.describe_db_instances()['DBInstances']
    names = [balancer['DNSName'].lower(), database['Endpoint']['Address']]
    assert [address_of(name) for name in names] == [None, None]
    records: list[Any] = [elbv2_backends[aws.account][aws.region].load_balancers[balancer['LoadBalancerArn']],
                          rds_backends[aws.account][aws.region].databases['visitors']]
    for record, address in zip(records, ('127.0.70.1', '10.64.0.1')):
        record.rehearsal_address = address
    assert [address_of(name) for name in names] == ['127.0.70.1', '10.64.0.1']


def test_a_resolver_goes_on_after_a_question_that_it_cannot_answer() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(('127.0.0.1', 0))
    resolver = Resolver(listener, lambda name: failing(name) if name == 'bad.example.com' else '192.0.2.1')
    try:
        codes = []
        for name in ('bad.example.com', 'good.example.com'):
            reply = DNSRecord.question(name).send('127.0.0.1', listener.getsockname()[1], timeout=30)
            codes.append(DNSRecord.parse(reply).header.rcode)
    finally:
        resolver.close()
    assert codes == [RCODE.SERVFAIL, RCODE.NOERROR]


@ROOT_ONLY
def test_a_command_sees_the_rehearsals_names_and_this_machine_does_not(api: Rehearsal) -> None:
    look = ['getent', 'hosts', '123456789012.localhost']
    before = RESOLV_CONF.read_text(encoding='utf-8')
    inside = subprocess.run([sys.executable, '-m', 'rehearsal', 'run', '--name', api.settings.name, *look],
                            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert inside.returncode == 0, inside.stderr
    assert inside.stdout.split()[0] == '127.0.0.1'
    assert RESOLV_CONF.read_text(encoding='utf-8') == before


@ROOT_ONLY
def test_a_command_ends_with_its_own_exit_code_and_has_the_rehearsals_environment(api: Rehearsal) -> None:
    script = f'test "$AWS_ENDPOINT_URL" = {api.endpoint} && exit 7'
    command = [sys.executable, '-m', 'rehearsal', 'run', '--name', api.settings.name, 'sh', '-c', script]
    result = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert result.returncode == 7


def test_without_root_the_names_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match='call `rehearsal up` and this as root'):
        run(None, ['true'], {}, tmp_path)


@pytest.mark.parametrize(('algorithm', 'kind'), [('EC_prime256v1', ec.EllipticCurvePublicKey)])
def test_a_certificate_has_the_key_that_was_asked_for_and_the_authoritys_signature(algorithm: str, kind: type) -> None:
    authority = Authority('test')
    issued = x509.load_pem_x509_certificate(authority.issue(['a.example.com', 'b.example.com'], algorithm).certificate)
    assert isinstance(issued.public_key(), kind)
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ['a.example.com', 'b.example.com']


def test_an_unknown_algorithm_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RehearsalError, match="'DSA_1024': take one of EC_prime256v1"):
        Authority('test').issue(['a.example.com'], 'DSA_1024')


def test_the_api_issues_a_certificate_with_the_key_that_was_asked_for(api: Rehearsal) -> None:
    acm = api.client('acm')
    arn = acm.request_certificate(DomainName='page.example.com', ValidationMethod='DNS',
                                  KeyAlgorithm='EC_prime256v1')['CertificateArn']
    described = acm.describe_certificate(CertificateArn=arn)['Certificate']
    assert described['KeyAlgorithm'] == 'EC_prime256v1'
    assert described['DomainValidationOptions'][0]['ResourceRecord']['Type'] == 'CNAME'
