"""The requests of a load balancer, and AWS's records of each: metrics of CloudWatch and a line of the access log.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

NAMESPACE = 'AWS/ApplicationELB'
COUNT, SECONDS, BYTES = 'Count', 'Seconds', 'Bytes'
CLIENT_CLOSED = 460
FORWARD, WAF = 'forward', 'waf'


@dataclass(frozen=True)
class Request:
    """A request to a load balancer and its answer, in seconds and bytes; empty texts and None are missing values."""

    received_at: datetime
    answered_at: datetime
    client: str
    port: int
    protocol: str
    request: str
    url: str
    agent: str
    status: int
    target_status: int | None
    target: str
    target_address: str
    # The id of the target group, the last part of its ARN.
    group: str
    rule: int | None
    action: str
    redirect_url: str
    connected: bool
    seconds_to_send: float | None
    seconds_to_answer: float | None
    seconds_to_return: float | None
    bytes_received: int
    bytes_sent: int
    cipher: str
    tls: str
    sni: str
    certificate: str
    trace: str


@dataclass(frozen=True)
class Figure:
    """A value of a metric, with its dimensions."""

    name: str
    dimensions: Mapping[str, str]
    value: float
    unit: str


def suffix_of(arn: str) -> str:
    """Return the part of the ARN of a load balancer or a target group that is its dimension in CloudWatch."""
    return arn.rpartition(':')[2].removeprefix('loadbalancer/')


def figures_of(request: Request, balancer: str, group: str, targets: int) -> list[Figure]:
    """Return the values of one request for CloudWatch.

    `balancer` and `group` are the dimensions of load balancer and target group, `targets` the number of targets that
    receive requests. A request for which no target was chosen is not counted in RequestCount.
    """
    whole, part = {'LoadBalancer': balancer}, {'TargetGroup': group, 'LoadBalancer': balancer}
    figures = [Figure('ProcessedBytes', whole, request.bytes_received + request.bytes_sent, BYTES)]
    if request.target:
        figures += [Figure('RequestCount', dimensions, 1, COUNT) for dimensions in (whole, part)]
        share = 1 / max(1, targets)
        figures += [Figure('RequestCountPerTarget', dimensions, share, COUNT)
                    for dimensions in ({'TargetGroup': group}, part)]
    if request.target and not request.connected:
        figures += [Figure('TargetConnectionErrorCount', dimensions, 1, COUNT) for dimensions in (whole, part)]
    if request.target_status:
        name = f'HTTPCode_Target_{request.target_status // 100}XX_Count'
        figures += [Figure(name, dimensions, 1, COUNT) for dimensions in (whole, part)]
    if request.seconds_to_answer is not None:
        figures += [Figure('TargetResponseTime', dimensions, request.seconds_to_answer, SECONDS)
                    for dimensions in (whole, part)]
    return figures + own_figures(request, whole)


def own_figures(request: Request, dimensions: Mapping[str, str]) -> list[Figure]:
    """Return the values of a request that the load balancer answered by itself; none if a target answered it."""
    if request.target_status:
        return []
    names = [f'HTTPCode_ELB_{request.status // 100}XX_Count'] if request.status >= 300 else []
    if request.status in (500, 502, 503, 504):
        names.append(f'HTTPCode_ELB_{request.status}_Count')
    kinds = {'redirect': 'HTTP_Redirect_Count', 'fixed-response': 'HTTP_Fixed_Response_Count'}
    if request.action in kinds:
        names.append(kinds[request.action])
    return [Figure(name, dimensions, 1, COUNT) for name in names]


def access_log_line(request: Request, balancer: str, group: str) -> str:
    """Return a request as a line of the access log.

    `balancer` is the resource's id, such as `app/name/0123456789abcdef`, `group` the ARN of the target group.
    """
    scheme = 'https' if request.protocol == 'HTTPS' else 'http'
    kind = 'h2' if request.request.endswith('HTTP/2.0') else scheme
    status = '-' if request.target_status is None else str(request.target_status)
    fields = [
        kind, at(request.answered_at), balancer, request.client, request.target_address or '-',
        seconds(request.seconds_to_send), seconds(request.seconds_to_answer), seconds(request.seconds_to_return),
        str(request.status), status, str(request.bytes_received), str(request.bytes_sent),
        quoted(request.request), quoted(request.agent), request.cipher or '-', request.tls or '-',
        group if request.target else '-', quoted(request.trace), quoted(request.sni), quoted(request.certificate),
        '-' if request.rule is None else str(request.rule), at(request.received_at), quoted(request.action),
        quoted(request.redirect_url), '"-"', quoted(request.target_address), quoted(status), '"-"', '"-"', '-']
    return ' '.join(fields)


def at(moment: datetime) -> str:
    """Return a moment as the access log writes it."""
    return f'{moment:%Y-%m-%dT%H:%M:%S.%f}Z'


def seconds(duration: float | None) -> str:
    """Return a duration as the access log writes it; -1 for one that did not end."""
    return '-1' if duration is None else f'{duration:.3f}'


def quoted(text: str) -> str:
    """Return a text in quotes, in which those of the text are escaped."""
    escaped = (text or '-').replace('"', '\\x22')
    return f'"{escaped}"'


def log_key(prefix: str, account: str, region: str, balancer: str, address: str, end: datetime, unique: str) -> str:
    """Return the key of an object of the access log."""
    start = f'{prefix}/' if prefix else ''
    parts = account, 'elasticloadbalancing', region, balancer.replace('/', '.'), f'{end:%Y%m%dT%H%MZ}', address, unique
    name = '_'.join(parts)
    return f'{start}AWSLogs/{account}/elasticloadbalancing/{region}/{end:%Y/%m/%d}/{name}.log.gz'
