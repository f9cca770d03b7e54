"""An instance's metadata, gathered from moto's records of EC2, IAM and Auto Scaling."""

from datetime import datetime, timezone
from typing import Any

from moto.autoscaling.models import autoscaling_backends

from rehearsal.api.permissions.principals import role_of
from rehearsal.machines.metadata.service import MetadataService
from rehearsal.machines.metadata.tree import instance_tree, Tree


def service_of(instance: Any) -> MetadataService:
    """Return the metadata service of an instance."""
    public_key = public_key_of(instance)  # as it is now, because the key pair may be deleted at any time
    return MetadataService(lambda: tree_of(instance, public_key), lambda: instance.metadata_options)


def tree_of(instance: Any, public_key: str | None) -> Tree:
    """Return the present metadata of an instance."""
    return instance_tree(instance, public_key=public_key, role=role_of(instance),
                         lifecycle_state=lifecycle_state_of(instance), now=datetime.now(timezone.utc))


def public_key_of(instance: Any) -> str | None:
    """Return the public half of an instance's key pair."""
    pair = instance.ec2_backend.key_pairs.get(instance.key_name)
    return pair.public_key.strip() if pair else None


def lifecycle_state_of(instance: Any) -> str | None:
    """Return the target lifecycle state of an instance of a group.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
    """
    groups = autoscaling_backends[instance.owner_id][instance.region_name]
    states: list[Any] = groups.describe_auto_scaling_instances([instance.id])
    if not states:
        return None
    return 'Terminated' if states[0].lifecycle_state.startswith('Terminat') else 'InService'
