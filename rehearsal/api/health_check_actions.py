"""The API's actions on health checks: moto keeps checks without making them.

https://docs.aws.amazon.com/Route53/latest/APIReference/API_CreateHealthCheck.html and
https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetHealthCheckStatus.html
"""

from typing import Any

from moto.core.responses import ActionResult
from moto.route53.models import Route53Backend
from moto.route53.responses import Route53

from rehearsal.api.health_checks.checker import answer_of
from rehearsal.api.health_checks.endpoint import DEFAULT_PORTS
from rehearsal.api.patching import Extension
from rehearsal.errors import NotModelled

TYPES = ('HTTP', 'HTTPS', 'HTTP_STR_MATCH', 'HTTPS_STR_MATCH', 'TCP', 'CALCULATED')
REGIONS = ('us-east-1', 'us-west-1', 'us-west-2', 'eu-west-1', 'ap-southeast-1', 'ap-southeast-2', 'ap-northeast-1',
           'sa-east-1')


class NewHealthChecks(Extension, extends=Route53Backend):
    """The action that creates a check."""

    def create_health_check(self, caller_reference: str, health_check_args: dict[str, Any]) -> Any:
        """Create a check, whose port is that of its protocol by default."""
        kind = health_check_args['type']
        if kind not in TYPES:
            raise NotModelled(f'a health check of the type {kind}')
        port = health_check_args.get('port') or DEFAULT_PORTS.get(kind.partition('_')[0])
        return self.moto_create_health_check(caller_reference, {**health_check_args, 'port': port})


class HealthCheckStatus(Extension, extends=Route53):
    """The action that shows the answers to a check."""

    def get_health_check_status(self) -> Any:
        """Show the last answer once for each region of the check; none before the first answer."""
        check = self.backend.get_health_check(self._get_param('HealthCheckId'))
        found = answer_of(check)
        reports = [] if found is None else [
            {'Region': region, 'IPAddress': '127.0.0.1',
             'StatusReport': {'Status': found[0].text, 'CheckedTime': found[1]}}
            for region in check.regions or REGIONS]
        return ActionResult({'HealthCheckObservations': reports})
