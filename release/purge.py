"""An image that was found broken goes for good, unless something still runs it or would start it."""

from collections.abc import Iterator
from dataclasses import dataclass

from release import images
from release.artefacts import Store
from release.errors import NotReady
from release.images import Image
from release.lock import Lock
from release.names import AMI
from release.run import Run

ALIVE = ('pending', 'running', 'stopping', 'stopped')


@dataclass(frozen=True)
class Purged:
    """An image that is gone."""

    ami: str
    stage: str
    key: str
    version: str


def purge(run: Run, store: Store, which: str) -> list[Purged]:
    """Return what is gone: one image, or all that have a key; raise NotReady where there is none, or one is in use."""
    found = [images.get(run.aws, which)] if AMI.fullmatch(which) else images.of_key(run.aws, which)
    if not found:
        raise NotReady(f'no image in the region {run.aws.region} has the key {which}')
    uses = [use for image in found for use in _uses(run, image)]
    if uses:
        raise NotReady(f'in use, so nothing was removed: {"; ".join(uses)}')
    return [_purge(run, store, image) for image in found]


def _purge(run: Run, store: Store, image: Image) -> Purged:
    lock = Lock(run.aws, image.key, run.run_id, run.who)
    with run.progress.phase(f'remove {image.ami}'):
        holder = lock.take()
        if holder:
            raise NotReady(f'{holder.who} is baking the key {image.key}; purge it afterwards')
        try:
            images.remove(run.aws, image)
            store.remove(image.ami)
        finally:
            lock.give_back()
    return Purged(image.ami, image.stage, image.key, image.version)


def _uses(run: Run, image: Image) -> Iterator[str]:
    """Yield who runs an image, and who would start it."""
    alive = [{'Name': 'image-id', 'Values': [image.ami]}, {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
    for reservation in run.aws.items('ec2', 'describe_instances', 'Reservations', Filters=alive):
        for instance in reservation['Instances']:
            yield f'the instance {instance["InstanceId"]} runs {image.ami}'
    for group in run.aws.items('autoscaling', 'describe_auto_scaling_groups', 'AutoScalingGroups'):
        if image.ami in _started_by(run, group.get('LaunchTemplate')):
            yield f'the Auto Scaling group {group["AutoScalingGroupName"]} starts {image.ami}'


def _started_by(run: Run, template: dict[str, str] | None) -> list[str]:
    if not template:
        return []
    answer = run.aws.call('ec2', 'describe_launch_template_versions', LaunchTemplateId=template['LaunchTemplateId'],
                          Versions=[template.get('Version', '$Default')])
    return [version['LaunchTemplateData'].get('ImageId', '') for version in answer['LaunchTemplateVersions']]
