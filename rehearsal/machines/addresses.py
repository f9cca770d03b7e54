"""The addresses at which the server answers inside a machine's own network namespace."""

from collections.abc import Mapping

from rehearsal.listeners import Application, Listener, serve
from rehearsal.machines.namespace import Namespace

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
METADATA = '169.254.169.254'
# No addresses of AWS's: the first stands for a VPC endpoint of every service, the second for the way to Debian.
API = '169.254.169.250'
ARCHIVE = '169.254.169.251'


def listen(namespace: Namespace, applications: Mapping[str, Application]) -> list[Listener]:
    """Return listeners at addresses, each of which is first made and checked to be the namespace's own."""
    for address in applications:
        namespace.own(address)
        namespace.check_is_own(address)
    return [serve(application, namespace.listen(address, 80)) for address, application in applications.items()]
