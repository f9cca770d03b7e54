"""The parts of a running rehearsal that extensions of moto need."""

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Network

from rehearsal.api.alarms.evaluator import Evaluator
from rehearsal.api.database_servers import DatabaseServers
from rehearsal.api.deliveries import Delivery
from rehearsal.api.fleet import Fleet
from rehearsal.api.group_control import Control
from rehearsal.api.load_balancers import LoadBalancers
from rehearsal.authority import Authority
from rehearsal.clocks import Clocks


@dataclass(frozen=True)
class Parts:
    """The parts of a running rehearsal."""

    region: str
    fleet: Fleet
    groups: Control
    authority: Authority
    load_balancers: LoadBalancers
    databases: DatabaseServers
    alarms: Evaluator
    # The newest notifications of SNS.
    deliveries: deque[Delivery]
    # The block of the region's default VPC; None leaves it to moto.
    default_block: IPv4Network | None = None
    clocks: Clocks = Clocks()
