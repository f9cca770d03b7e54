"""The metrics and logs of the requests to a load balancer, its web ACL, and the end of a killed one."""

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
import gzip
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys
from typing import Any

from botocore.exceptions import ClientError
from moto.cloudwatch.models import cloudwatch_backends
import pytest

from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.machines.claims import Claims
from rehearsal.machines.sweep import balancers_in, end_load_balancers
from tests.support.balanced_site import balanced_site, REDIRECT, Site
from tests.support.server import ROOT
from tests.support.waiting import eventually

# Five minutes of AWS last a second, so that an access log is written soon.
PACE = 300
# The program of a server of load balancers, which is killed.
KILLED = """
from pathlib import Path
import sys
from rehearsal.api.routing import Configuration, FixedResponse, Listener, Plan, Rule
from rehearsal.machines.load_balancer import LoadBalancer
folder, address, port = sys.argv[1:]
listener = Listener(int(port), 'HTTP', (Rule(0, (), FixedResponse(200, 'text/plain', 'up')),))
balancer = LoadBalancer(Path(folder, 'a'), address, int, print)
balancer.follow(Plan(Configuration((listener,), {}, 60, True, True, None), {}), str)
print('up', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def site(aws: EmbeddedRehearsal) -> Iterator[Site]:
    """Give a site with two healthy targets."""
    with balanced_site(aws, targets=2, pace=PACE) as made:
        yield made


def figures(site: Site, name: str, statistic: str, *dimensions: str) -> float:
    """Return a statistic of a metric with exactly these dimensions; 0 for a metric without data.

    From the record, because moto's GetMetricStatistics mixes metrics with further dimensions into it.
    """
    values = {'LoadBalancer': site.arn.partition('loadbalancer/')[2], 'TargetGroup': site.group.rpartition(':')[2]}
    wanted = {each: values[each] for each in dimensions or ('LoadBalancer',)}
    records: list[Any] = list(cloudwatch_backends[site.aws.account][site.aws.region].metric_data)
    data = [datum for datum in records if (datum.namespace, datum.name) == ('AWS/ApplicationELB', name)]
    found = [datum.value for datum in data if {each.name: each.value for each in datum.dimensions} == wanted]
    statistics: dict[str, Callable[[list[float]], float]] = {
        'Sum': sum, 'Maximum': max, 'Minimum': min, 'SampleCount': len}
    return float(statistics[statistic](found)) if found else 0


def wait_for_sum(site: Site, name: str, expected: float, *dimensions: str) -> None:
    eventually(lambda: figures(site, name, 'Sum', *dimensions) == expected,
               lambda: f'{name} is {figures(site, name, "Sum", *dimensions)} and not {expected}')


def test_metrics_count_requests_answers_and_seconds(site: Site) -> None:
    # The first requests of a site, until it answers.
    eventually(lambda: site.balancers.requests and site.balancers.requests[-1].status == 200, 'the books are complete')
    before = sum(bool(request.target) for request in site.balancers.requests)
    wait_for_sum(site, 'RequestCount', before)
    for path in ('/', '/', '/teapot', '/cut'):
        site.ask(path)
    wait_for_sum(site, 'RequestCount', before + 4)
    wait_for_sum(site, 'RequestCount', before + 4, 'TargetGroup', 'LoadBalancer')
    wait_for_sum(site, 'RequestCountPerTarget', (before + 4) / 2, 'TargetGroup')
    wait_for_sum(site, 'HTTPCode_Target_2XX_Count', before + 2)
    wait_for_sum(site, 'HTTPCode_Target_4XX_Count', 1, 'TargetGroup', 'LoadBalancer')
    wait_for_sum(site, 'HTTPCode_ELB_5XX_Count', 1)
    wait_for_sum(site, 'HTTPCode_ELB_502_Count', 1)
    assert figures(site, 'TargetResponseTime', 'SampleCount') == before + 3
    assert 0 <= figures(site, 'TargetResponseTime', 'Maximum') < 10


def test_metrics_count_errors_of_connections_to_targets(site: Site) -> None:
    for target in site.targets.values():
        target.stop()
    assert site.ask().status == 502
    wait_for_sum(site, 'TargetConnectionErrorCount', 1)
    wait_for_sum(site, 'HTTPCode_ELB_502_Count', 1)


def test_a_request_for_which_no_target_is_chosen_is_no_request_of_the_metric(aws: EmbeddedRehearsal) -> None:
    with balanced_site(aws) as site:
        site.elb.modify_listener(ListenerArn=site.listener, DefaultActions=[REDIRECT])
        site.wait_until(301)
        eventually(lambda: figures(site, 'HTTP_Redirect_Count', 'Sum') == 1, 'the redirect is counted')
        assert figures(site, 'HTTPCode_ELB_503_Count', 'Sum') >= 1, 'the site had no target before'
        assert figures(site, 'HTTPCode_ELB_3XX_Count', 'Sum') == 1
        assert figures(site, 'RequestCount', 'Sum') == 0


def test_metrics_count_healthy_and_unhealthy_targets(site: Site) -> None:
    both = 'TargetGroup', 'LoadBalancer'
    eventually(lambda: figures(site, 'HealthyHostCount', 'Maximum', *both) == 2, 'both are healthy')
    assert figures(site, 'UnHealthyHostCount', 'Maximum', *both) == 0
    next(iter(site.targets.values())).health = 500
    eventually(lambda: figures(site, 'UnHealthyHostCount', 'Maximum', *both) == 1, 'one is unhealthy')
    assert figures(site, 'HealthyHostCount', 'Minimum', *both) <= 1


def log_to(site: Site, bucket: str) -> None:
    site.elb.modify_load_balancer_attributes(LoadBalancerArn=site.arn, Attributes=[
        {'Key': 'access_logs.s3.enabled', 'Value': 'true'}, {'Key': 'access_logs.s3.bucket', 'Value': bucket},
        {'Key': 'access_logs.s3.prefix', 'Value': 'page'}])


def lines_in(site: Site, bucket: str) -> list[list[str]]:
    """Return the fields of the lines of an access log."""
    s3 = site.aws.client('s3')
    keys = [each['Key'] for each in s3.list_objects_v2(Bucket=bucket).get('Contents', [])]
    texts = [gzip.decompress(s3.get_object(Bucket=bucket, Key=key)['Body'].read()).decode()
             for key in keys if key.endswith('.log.gz')]
    return [shlex.split(line) for text in texts for line in text.splitlines()]


def test_the_access_log_has_a_line_of_each_request(site: Site) -> None:
    s3 = site.aws.client('s3')
    s3.create_bucket(Bucket='logs')
    log_to(site, 'logs')
    key = s3.list_objects_v2(Bucket='logs')['Contents'][0]['Key']
    assert key == 'page/AWSLogs/123456789012/ELBAccessLogTestFile'  # pragma: allowlist secret
    site.ask('/seen?by=1', source='127.5.6.7', headers={'User-Agent': 'a "browser"'})
    found = eventually(lambda: [line for line in lines_in(site, 'logs') if '/seen' in line[12]], 'the line is there')
    (line,) = found
    assert len(line) == 30
    assert line[0] == 'http' and line[2] == site.arn.partition('loadbalancer/')[2]
    assert line[3].startswith('127.5.6.7:') and line[4].startswith('127.0.0.1:')
    assert all(float(seconds) >= 0 for seconds in line[5:8]) and line[8:10] == ['200', '200']
    assert line[12:14] == ['GET http://page.example.com:80/seen?by=1 HTTP/1.1', 'a \\x22browser\\x22']
    assert line[16] == site.group and line[17].startswith('Root=1-')
    assert (line[20], line[22]) == ('0', 'forward')
    keys = [each['Key'] for each in s3.list_objects_v2(Bucket='logs')['Contents']]
    name = site.arn.partition('loadbalancer/')[2].replace('/', '.')
    day = f'{datetime.now(timezone.utc):%Y/%m/%d}'
    folder = f'page/AWSLogs/123456789012/elasticloadbalancing/us-east-1/{day}'
    start = f'{folder}/123456789012_elasticloadbalancing_us-east-1_{name}_'
    assert any(key.startswith(start) and f'_{site.address}_' in key for key in keys)


def test_a_deleted_load_balancer_leaves_the_rest_of_its_log(aws: EmbeddedRehearsal) -> None:
    with balanced_site(aws, targets=1) as site:
        aws.client('s3').create_bucket(Bucket='logs')
        log_to(site, 'logs')
        site.ask('/last')
        eventually(lambda: site.balancers.requests[-1].url == '/last', 'the request is in the books')
        site.elb.delete_load_balancer(LoadBalancerArn=site.arn)
        eventually(lambda: [line for line in lines_in(site, 'logs') if '/last' in line[12]], 'the line is there')


def test_an_access_log_without_its_bucket_is_refused(site: Site) -> None:
    with pytest.raises(ClientError, match='InvalidConfigurationRequest.*Access Denied for bucket: missing'):
        log_to(site, 'missing')


def make_acl(site: Site, limit: int = 10, **statement: Any) -> str:
    shown = {'SampledRequestsEnabled': False, 'CloudWatchMetricsEnabled': True, 'MetricName': 'acl'}
    rule = {'Name': 'rate', 'Priority': 1, 'Action': {'Block': {}}, 'VisibilityConfig': shown, 'Statement': {
        'RateBasedStatement': {'Limit': limit, 'AggregateKeyType': 'IP', 'EvaluationWindowSec': 300, **statement}}}
    answer = site.aws.client('wafv2').create_web_acl(Name='acl', Scope='REGIONAL', DefaultAction={'Allow': {}},
                                                     Rules=[rule], VisibilityConfig=shown)
    return str(answer['Summary']['ARN'])


def test_a_web_acl_blocks_an_address_beyond_its_rate_and_no_other(site: Site) -> None:
    waf = site.aws.client('wafv2')
    waf.associate_web_acl(WebACLArn=make_acl(site), ResourceArn=site.arn)
    answer = site.wait_until(403, source='127.1.1.1')
    assert '<h1>403 Forbidden</h1>' in answer.body
    statuses = [site.ask(source='127.2.2.2').status for _ in range(12)]
    assert statuses == [200] * 10 + [403] * 2
    eventually(lambda: site.balancers.requests[-1].status == 403, 'the request is in the books')
    assert (site.balancers.requests[-1].action, site.balancers.requests[-1].target) == ('waf', '')
    waf.disassociate_web_acl(ResourceArn=site.arn)
    site.wait_until(200, source='127.1.1.1')


def test_a_web_acl_of_another_kind_is_refused_for_a_load_balancer(site: Site) -> None:
    acl = make_acl(site, AggregateKeyType='FORWARDED_IP', ForwardedIPConfig={
        'HeaderName': 'X-Forwarded-For', 'FallbackBehavior': 'MATCH'})
    with pytest.raises(ClientError, match='UnknownOperationException.*only a rate of each address'):
        site.aws.client('wafv2').associate_web_acl(WebACLArn=acl, ResourceArn=site.arn)


def test_rehearsals_side_by_side_have_load_balancers_at_different_addresses() -> None:
    one, other = Claims('same'), Claims('same')
    try:
        addresses = [one.address_of('a'), one.address_of('b'), other.address_of('a'), one.address_of('a')]
        assert len(set(addresses[:3])) == 3 and addresses[3] == addresses[0]
        one.release('a')
        assert other.address_of('c') == addresses[0]
    finally:
        one.close()
        other.close()


def test_the_address_of_a_load_balancer_that_outlived_its_server_is_not_taken(tmp_path: Path) -> None:
    claims, port = Claims('same'), 18099
    address = claims.address_of('a')
    claims.close()  # its server was killed
    server = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path), address, str(port)], cwd=ROOT,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin and server.stdout
    try:
        assert server.stdout.readline() == b'up\n'
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        (left,) = balancers_in(tmp_path)
        new = Claims('same')
        assert new.address_of('a') != address
        new.close()
        end_load_balancers(tmp_path)
        assert not left.is_running() and not tmp_path.exists()
    finally:
        end_load_balancers(tmp_path)
        server.stdin.close()
        server.stdout.close()
        server.wait()
