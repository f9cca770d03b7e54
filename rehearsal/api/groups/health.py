"""The health checks of a group: whether an instance must be replaced, and why. Pure decisions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
"""

from dataclasses import dataclass

# https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-checks-overview.html: any state but running.
NOT_RUNNING = ('stopping', 'stopped', 'shutting-down', 'terminated')
CAUSE = 'an instance was taken out of service in response to {}'


@dataclass(frozen=True)
class Checks:
    """The results of the health checks of an instance."""

    power: str
    # Whether a user called SetInstanceHealth.
    is_marked: bool = False
    # EC2, or ELB where the load balancers decide as well.
    kind: str = 'EC2'
    targets: tuple[str, ...] = ()
    # Whether it is within the grace period, in which the load balancers do not decide.
    in_grace: bool = False

    @property
    def runs(self) -> bool:
        """Whether the instance runs or starts."""
        return self.power not in NOT_RUNNING


def failure(checks: Checks) -> str:
    """Return the cause to replace an instance; empty while it passes its health checks.

    An instance that does not run is replaced also in its grace period:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-check-grace-period.html
    """
    if not checks.runs:
        return CAUSE.format('an EC2 health check indicating it has been terminated or stopped')
    if checks.is_marked:
        return CAUSE.format('a user health-check')
    if 'ELB' in checks.kind and 'unhealthy' in checks.targets and not checks.in_grace:
        return CAUSE.format('an ELB system health check failure')
    return ''
