"""Load balancers: a real haproxy at an address of its own, which answers as an Application Load Balancer does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import RemoteDisconnected
import re
import ssl
from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.api.traffic import Request
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.names.sources import own_names
from tests.support.balanced_site import balanced_site, fixed, forward, POLICY, port_of, REDIRECT, Site, Target
from tests.support.waiting import eventually

SERVER, HSTS = 'routing.http.response.server.enabled', 'routing.http.response.strict_transport_security.header_value'


@pytest.fixture
def site(aws: EmbeddedRehearsal) -> Iterator[Site]:
    """Give a site with two healthy targets."""
    with balanced_site(aws, targets=2) as made:
        yield made


@pytest.fixture
def empty_site(aws: EmbeddedRehearsal) -> Iterator[Site]:
    """Give a site without targets."""
    with balanced_site(aws) as made:
        yield made


def set_attributes(site: Site, **attributes: str) -> None:
    """Set attributes of a load balancer, whose dots are double underscores here."""
    site.elb.modify_load_balancer_attributes(LoadBalancerArn=site.arn, Attributes=[
        {'Key': name.replace('__', '.'), 'Value': value} for name, value in attributes.items()])


def issue(aws: EmbeddedRehearsal, name: str) -> tuple[str, str]:
    """Return the ARN of a new certificate, and the certificate of its authority."""
    acm = aws.client('acm')
    arn = acm.request_certificate(DomainName=name, KeyAlgorithm='EC_prime256v1')['CertificateArn']
    return arn, acm.get_certificate(CertificateArn=arn)['CertificateChain']


def secure(site: Site, *names: str, policy: str = POLICY) -> ssl.SSLContext:
    """Add a listener of HTTPS with certificates of these names, and return the context of a client that trusts it."""
    certificates = [issue(site.aws, name) for name in names]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates[0][1])
    listener = site.elb.create_listener(
        LoadBalancerArn=site.arn, Protocol='HTTPS', Port=443, SslPolicy=policy,
        Certificates=[{'CertificateArn': certificates[0][0]}], DefaultActions=[forward(site.group)])
    for arn, _ in certificates[1:]:
        site.elb.add_listener_certificates(ListenerArn=listener['Listeners'][0]['ListenerArn'],
                                           Certificates=[{'CertificateArn': arn}])
    return context


def serves(site: Site, context: ssl.SSLContext, host: str) -> bool:
    """Return whether a site answers over TLS with a certificate of a name."""
    try:
        return site.ask(port=443, context=context, host=host).status == 200
    except OSError:
        return False


def test_requests_reach_all_targets(site: Site) -> None:
    answers = [site.ask() for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.body.split('"')[3] for answer in answers} == set(site.targets)


def test_the_name_of_a_load_balancer_leads_to_its_address(empty_site: Site) -> None:
    assert own_names()[empty_site.name.lower()] == empty_site.address


def test_a_target_sees_client_protocol_and_port_and_a_trace(site: Site) -> None:
    seen = site.ask(source='127.7.8.9', headers={'X-Forwarded-For': '203.0.113.9', 'X-Forwarded-Proto': 'gopher',
                                                 'X-Forwarded-Port': '1'}).echo
    assert seen['x-forwarded-for'] == '203.0.113.9, 127.7.8.9'
    assert (seen['x-forwarded-proto'], seen['x-forwarded-port']) == ('http', '80')
    assert re.fullmatch('Root=1-[0-9a-f]{8}-[0-9a-f]{24}', seen['x-amzn-trace-id'])
    assert site.ask(source='127.7.8.9').echo['x-forwarded-for'] == '127.7.8.9'


def test_a_trace_of_the_client_keeps_its_root(site: Site) -> None:
    root = 'Root=1-67891233-abcdef012345678912345678'
    trace = site.ask(headers={'X-Amzn-Trace-Id': root}).echo['x-amzn-trace-id']
    assert re.fullmatch(f'Self=1-[0-9a-f]{{8}}-[0-9a-f]{{24}};{root}', trace)


def test_invalid_header_fields_are_dropped_on_request_only(site: Site) -> None:
    headers = {'X_Forwarded_For': '203.0.113.9', 'X.Y': '1', 'X-Good-1': '1'}
    assert {'x_forwarded_for', 'x.y', 'x-good-1'} <= set(site.ask(headers=headers).echo)
    set_attributes(site, routing__http__drop_invalid_header_fields__enabled='true')
    eventually(lambda: 'x_forwarded_for' not in site.ask(headers=headers).echo, 'the header is dropped')
    seen = site.ask(headers=headers).echo
    assert 'x.y' not in seen and seen['x-good-1'] == '1'


def test_a_redirect_names_protocol_host_port_path_and_query(empty_site: Site) -> None:
    empty_site.elb.modify_listener(ListenerArn=empty_site.listener, DefaultActions=[REDIRECT])
    answer = empty_site.wait_until(301, '/a/b?c=d&e', host='PAGE.example.com')
    assert answer.headers['location'] == 'https://PAGE.example.com:443/a/b?c=d&e'
    assert empty_site.ask('/').headers['location'] == 'https://page.example.com:443/'
    assert answer.headers['server'] == 'awselb/2.0' and '<h1>301 Moved Permanently</h1>' in answer.body


def test_a_redirect_changes_only_the_parts_that_it_names(empty_site: Site) -> None:
    empty_site.rule(1, {'Type': 'redirect', 'RedirectConfig': {
        'Host': 'new.#{host}', 'Path': '/moved/#{path}', 'Query': 'was=1', 'StatusCode': 'HTTP_302'}},
        path_pattern=['/old*'])
    location = empty_site.wait_until(302, '/old/page?x').headers['location']
    assert location == 'http://new.page.example.com:80/moved/old/page?was=1'


def test_the_rule_of_the_lowest_priority_that_matches_decides(empty_site: Site) -> None:
    empty_site.rule(20, fixed(200, 'any image'), path_pattern=['/img/*'])
    empty_site.rule(10, fixed(200, 'one letter'), path_pattern=['/img/?', '/picture/?'])
    empty_site.rule(5, fixed(200, 'other host'), host_header=['*.Example.org'], path_pattern=['/img/*'])

    def body(path: str, host: str = 'page.example.com') -> str:
        return empty_site.ask(path, host=host).body

    eventually(lambda: body('/img/a', host='WWW.example.ORG:80') == 'other host', 'the last rule applies')
    assert body('/img/a') == body('/picture/b?q') == 'one letter'
    assert body('/img/ab') == body('/img/') == 'any image'
    assert empty_site.ask('/IMG/a').status == 503, 'paths match their case, so the default rule applies'
    assert empty_site.ask('/img/a', host='example.org').body == 'one letter'


def test_a_special_character_of_a_pattern_stands_for_itself(empty_site: Site) -> None:
    empty_site.rule(1, fixed(200, 'it'), path_pattern=['/a.b+c$"d'])
    empty_site.wait_until(200, '/a.b+c$"d')
    assert empty_site.ask('/axb+c$"d').status == 503


def test_tls_shows_the_certificate_of_the_name(site: Site) -> None:
    context = secure(site, 'page.example.com', 'shop.example.org')
    eventually(lambda: serves(site, context, 'shop.example.org'), 'the second certificate is there')
    answer = site.ask(port=443, context=context)
    assert (answer.echo['x-forwarded-proto'], answer.echo['x-forwarded-port']) == ('https', '443')
    assert not serves(site, context, 'unknown.example.com')
    context.check_hostname = False
    assert site.ask(port=443, context=context, host='unknown.example.com').status == 200
    eventually(lambda: len(site.balancers.requests) and site.balancers.requests[-1].sni == 'unknown.example.com',
               'the request is in the books')
    described = site.elb.describe_listeners(LoadBalancerArn=site.arn)['Listeners']
    (default,) = [each['Certificates'][0]['CertificateArn'] for each in described if each['Port'] == 443]
    assert site.balancers.requests[-1].certificate == default


@pytest.mark.parametrize(('policy', 'accepted'), [(POLICY, True), ('ELBSecurityPolicy-TLS13-1-3-2021-06', False)])
def test_the_policy_decides_the_oldest_version_of_tls(site: Site, policy: str, accepted: bool) -> None:
    context = secure(site, 'page.example.com', policy=policy)
    site.wait_until(200, port=443, context=context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if accepted:
        assert site.ask(port=443, context=context).status == 200
    else:
        with pytest.raises(ssl.SSLError):
            site.ask(port=443, context=context)


def test_attributes_of_a_listener_set_and_remove_headers(site: Site) -> None:
    assert 'strict-transport-security' not in site.ask().headers
    site.rule(1, fixed(200, 'own'), path_pattern=['/own'])
    eventually(lambda: site.ask('/own').body == 'own', 'the rule applies')
    assert site.ask('/own').headers['server'] == 'awselb/2.0'
    site.elb.modify_listener_attributes(ListenerArn=site.listener, Attributes=[
        {'Key': HSTS, 'Value': 'max-age=31536000'}, {'Key': SERVER, 'Value': 'false'}])
    eventually(lambda: 'strict-transport-security' in site.ask().headers, 'the header is set')
    assert site.ask().headers['strict-transport-security'] == 'max-age=31536000'
    assert 'server' in site.ask().headers, "the target's own header stays"
    assert 'server' not in site.ask('/own').headers


def test_without_registered_targets_it_answers_503(empty_site: Site) -> None:
    answer = empty_site.ask()
    assert answer.status == 503 and '<h1>503 Service Temporarily Unavailable</h1>' in answer.body
    assert answer.headers['server'] == 'awselb/2.0'


def test_a_target_that_refuses_or_cuts_the_connection_is_answered_by_502(site: Site) -> None:
    assert site.ask('/cut').status == 502
    for target in site.targets.values():
        target.stop()
    answer = site.ask()
    assert answer.status == 502 and '<h1>502 Bad Gateway</h1>' in answer.body


def test_a_target_that_does_not_answer_within_the_idle_timeout_is_answered_by_504(site: Site) -> None:
    set_attributes(site, idle_timeout__timeout_seconds='1')
    answer = site.wait_until(504, '/wait')
    assert '<h1>504 Gateway Time-out</h1>' in answer.body


def test_an_unhealthy_target_gets_no_request_while_another_is_healthy(site: Site) -> None:
    sick, well = site.targets.values()
    sick.health = 500
    site.wait_for('unhealthy', sick)
    described = site.elb.describe_target_health(TargetGroupArn=site.group, Targets=[{'Id': sick.instance}])
    health = described['TargetHealthDescriptions'][0]['TargetHealth']
    assert health['Reason'] == 'Target.ResponseCodeMismatch' and '[500]' in health['Description']
    eventually(lambda: {site.ask().body.split('"')[3] for _ in range(6)} == {well.instance}, 'only one gets requests')
    assert set(sick.checked_by) == {'ELB-HealthChecker/2.0'}


def test_if_all_targets_are_unhealthy_all_get_requests(site: Site) -> None:
    for target in site.targets.values():
        target.health = 503
    site.wait_for('unhealthy', *site.targets.values())
    answers = [site.ask() for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.body.split('"')[3] for answer in answers} == set(site.targets)


def test_the_matcher_decides_which_answers_are_healthy(aws: EmbeddedRehearsal) -> None:
    with balanced_site(aws, targets=1, Matcher={'HttpCode': '200-299,418'}) as site:
        (target,) = site.targets.values()
        target.health = 500
        site.wait_for('unhealthy', target)
        target.health = 418
        site.wait_for('healthy', target)


def test_a_target_that_refuses_connections_is_unhealthy_with_its_reason(site: Site) -> None:
    target = next(iter(site.targets.values()))
    target.stop()
    site.wait_for('unhealthy', target)
    described = site.elb.describe_target_health(TargetGroupArn=site.group, Targets=[{'Id': target.instance}])
    assert described['TargetHealthDescriptions'][0]['TargetHealth']['Reason'] == 'Target.FailedHealthChecks'


def test_a_target_of_a_group_that_no_listener_uses_is_unused(site: Site) -> None:
    target = next(iter(site.targets.values()))
    vpc = site.aws.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId']
    other = site.elb.create_target_group(Name='other', Protocol='HTTP', Port=80, VpcId=vpc)['TargetGroups'][0]
    site.elb.register_targets(TargetGroupArn=other['TargetGroupArn'], Targets=[{'Id': target.instance}])
    described = site.elb.describe_target_health(TargetGroupArn=other['TargetGroupArn'])
    health = described['TargetHealthDescriptions'][0]['TargetHealth']
    assert (health['State'], health['Reason']) == ('unused', 'Target.NotInUse')


def deregister(site: Site, target: Target) -> None:
    site.elb.deregister_targets(TargetGroupArn=site.group, Targets=[{'Id': target.instance}])


def set_delay(site: Site, seconds: int) -> None:
    site.elb.modify_target_group_attributes(TargetGroupArn=site.group, Attributes=[
        {'Key': 'deregistration_delay.timeout_seconds', 'Value': str(seconds)}])


def waiting_request(site: Site, threads: ThreadPoolExecutor) -> tuple[Any, Target]:
    """Begin a request that waits in a target, and return its future and the target."""
    future = threads.submit(site.ask, '/wait')
    eventually(lambda: any(target.waiting.is_set() for target in site.targets.values()), 'the request waits')
    return future, next(target for target in site.targets.values() if target.waiting.is_set())


def test_a_draining_target_answers_its_requests_and_gets_no_new_ones(site: Site) -> None:
    set_delay(site, 3000)
    with ThreadPoolExecutor() as threads:
        future, target = waiting_request(site, threads)
        deregister(site, target)
        assert site.state(target) == 'draining'
        (other,) = set(site.targets) - {target.instance}
        eventually(lambda: {site.ask().body.split('"')[3] for _ in range(6)} == {other}, 'new requests go elsewhere')
        target.may_answer.set()
        assert future.result().status == 200


def test_a_request_that_outlasts_the_deregistration_delay_is_ended(site: Site) -> None:
    set_delay(site, 5)
    with ThreadPoolExecutor() as threads:
        future, target = waiting_request(site, threads)
        deregister(site, target)
        outcome = future.exception() or future.result().status
        # haproxy 2 answers as an ALB does, haproxy 3 closes the connection.
        assert outcome == 502 or isinstance(outcome, RemoteDisconnected), outcome
        target.may_answer.set()
    eventually(lambda: site.state(target) == 'unused', 'it is drained')


def test_a_drained_target_that_is_registered_again_gets_requests(site: Site) -> None:
    set_delay(site, 0)
    target = next(iter(site.targets.values()))
    deregister(site, target)
    eventually(lambda: target.instance not in {site.ask().body.split('"')[3] for _ in range(6)}, 'it is removed')
    site.add(target)
    site.wait_for('healthy', target)
    eventually(lambda: target.instance in {site.ask().body.split('"')[3] for _ in range(6)}, 'it gets requests')


def test_a_terminated_instance_is_deregistered(site: Site) -> None:
    target = next(iter(site.targets.values()))
    site.aws.client('ec2').terminate_instances(InstanceIds=[target.instance])
    site.wait_for('draining', target)


def test_a_change_of_rules_disturbs_no_request(site: Site) -> None:
    with ThreadPoolExecutor() as threads:
        future, target = waiting_request(site, threads)
        site.rule(1, fixed(200, 'new'), path_pattern=['/new'])
        statuses = [site.ask().status for _ in range(20)]
        site.wait_until(200, '/new')
        target.may_answer.set()
        assert future.result().status == 200
        assert set(statuses) == {200}


def test_all_requests_are_in_the_books_with_client_answer_and_target(site: Site) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: site.ask(f'/{number}', source=f'127.9.0.{number % 250 + 1}'), range(400)))

    def numbered() -> list[Request]:
        return [request for request in list(site.balancers.requests) if request.url != '/']

    eventually(lambda: len(numbered()) == 400, lambda: f'{len(numbered())} of 400 requests are in the books')
    requests = {request.url: request for request in numbered()}
    assert set(requests) == {f'/{number}' for number in range(400)}
    assert requests['/7'].client.startswith('127.9.0.8:')
    assert (requests['/7'].status, requests['/7'].target_status) == (200, 200)
    assert {request.target for request in requests.values()} == set(site.targets)


def test_each_load_balancer_has_an_address_of_its_own(empty_site: Site) -> None:
    subnets = [each['SubnetId'] for each in empty_site.aws.client('ec2').describe_subnets()['Subnets']][:2]
    other = empty_site.elb.create_load_balancer(Name='other', Subnets=subnets)['LoadBalancers'][0]
    empty_site.elb.create_listener(LoadBalancerArn=other['LoadBalancerArn'], Protocol='HTTP', Port=80,
                                   DefaultActions=[fixed(200, 'other')])
    address = own_names()[other['DNSName'].lower()]
    assert address != empty_site.address and port_of(80)
    site = Site(empty_site.aws, empty_site.balancers, other['LoadBalancerArn'], '', '', '', address)
    assert site.wait_until(200).body == 'other'
    assert empty_site.ask().status == 503


def test_a_deleted_load_balancer_listens_no_more(empty_site: Site) -> None:
    empty_site.elb.delete_load_balancer(LoadBalancerArn=empty_site.arn)

    def refused() -> bool:
        try:
            empty_site.ask()
        except OSError as error:  # the last connection may be reset
            return isinstance(error, ConnectionRefusedError)
        return False

    eventually(refused, 'connections are refused')


@pytest.mark.parametrize(('action', 'values', 'reason'), [
    ('create_rule', {'Priority': 1, 'Conditions': [{'Field': 'http-header', 'HttpHeaderConfig': {
        'HttpHeaderName': 'a', 'Values': ['b']}}], 'Actions': [fixed(200, '')]}, 'condition http-header'),
    ('create_rule', {'Priority': 1, 'Conditions': [{'Field': 'path-pattern', 'Values': ['/a']}], 'Actions': [
        {'Type': 'authenticate-cognito', 'AuthenticateCognitoConfig': {
            'UserPoolArn': 'a', 'UserPoolClientId': 'b', 'UserPoolDomain': 'c'}}]}, 'action authenticate-cognito'),
    ('modify_listener', {'SslPolicy': 'ELBSecurityPolicy-2016-08'}, 'SslPolicy'),
    ('modify_listener_attributes', {'Attributes': [
        {'Key': 'routing.http.response.access_control_allow_origin.header_value', 'Value': '*'}]}, 'access_control'),
])
def test_what_a_listener_lacks_here_is_refused_and_listed_as_a_gap(
        empty_site: Site, action: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClientError, match=f'InvalidAction.*{reason}'):
        getattr(empty_site.elb, action)(ListenerArn=empty_site.listener, **values)
    assert len(empty_site.aws.gaps) == 1
    empty_site.elb.describe_rules(ListenerArn=empty_site.listener)


@pytest.mark.parametrize(('name', 'value'), [
    ('routing.http.xff_header_processing.mode', 'remove'), ('routing.http.xff_client_port.enabled', 'true'),
    ('client_keep_alive.seconds', '60')])
def test_an_attribute_without_effect_here_is_refused(empty_site: Site, name: str, value: str) -> None:
    with pytest.raises(ClientError, match=f'InvalidAction.*attribute {name}'):
        empty_site.elb.modify_load_balancer_attributes(LoadBalancerArn=empty_site.arn,
                                                       Attributes=[{'Key': name, 'Value': value}])
    with pytest.raises(ClientError, match='InvalidAction.*attribute stickiness.enabled'):
        empty_site.elb.modify_target_group_attributes(TargetGroupArn=empty_site.group, Attributes=[
            {'Key': 'stickiness.enabled', 'Value': 'true'}])


def test_a_load_balancer_or_target_group_of_another_kind_is_refused(empty_site: Site) -> None:
    subnets = [each['SubnetId'] for each in empty_site.aws.client('ec2').describe_subnets()['Subnets']][:2]
    with pytest.raises(ClientError, match='InvalidAction.*load balancer type network'):
        empty_site.elb.create_load_balancer(Name='other', Subnets=subnets, Type='network')
    vpc = empty_site.aws.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId']
    with pytest.raises(ClientError, match='InvalidAction.*only instances that speak HTTP'):
        empty_site.elb.create_target_group(Name='other', Protocol='HTTP', Port=80, VpcId=vpc, TargetType='ip')
