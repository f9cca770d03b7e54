"""What this rehearsal adds to moto, or keeps otherwise, so that AWS's tools find what AWS would answer.

One module for each service. Instances, AMIs, groups and launch templates, behind which machines stand, have rooms of
their own beside this package.
"""

from rehearsal.api import (
    account_defaults, buckets, budgets, certificates, databases, networks)
from rehearsal.api.groups import scaling_policies
from rehearsal.authority import Authority


def install(authority: Authority) -> None:
    """Extend moto by all of it."""
    account_defaults.install()
    buckets.install()
    budgets.install()
    networks.install()
    databases.install()
    scaling_policies.install()
    certificates.install(authority)
