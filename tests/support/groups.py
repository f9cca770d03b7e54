"""Groups of a rehearsal, as tests create them and look at them."""

from typing import Any
import uuid

from rehearsal.client import Rehearsal
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.waiting import eventually


class Group:
    """A group of a launch template of its own."""

    def __init__(self, api: Rehearsal | EmbeddedRehearsal, hooks: list[dict[str, Any]], **options: Any) -> None:
        """Make the launch template and the group."""
        self.name = f'group-{uuid.uuid4().hex[:8]}'
        self.api, self.ec2 = api.client('autoscaling'), api.client('ec2')
        ami = api.source_ami if isinstance(api, EmbeddedRehearsal) else api.facts['source_ami']
        self.ec2.create_launch_template(LaunchTemplateName=self.name, LaunchTemplateData={
            'ImageId': ami, 'InstanceType': 't3.small',
            'TagSpecifications': [{'ResourceType': 'instance', 'Tags': [{'Key': 'From', 'Value': 'template'}]}]})
        self.api.create_auto_scaling_group(**{
            'AutoScalingGroupName': self.name, 'MinSize': 0, 'MaxSize': 4, 'DesiredCapacity': 2,
            'LaunchTemplate': {'LaunchTemplateName': self.name, 'Version': '1'},
            'AvailabilityZones': ['us-east-1a', 'us-east-1b'], 'LifecycleHookSpecificationList': hooks, **options})

    @property
    def described(self) -> dict[str, Any]:
        """Its description by the API."""
        answer = self.api.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return dict(answer['AutoScalingGroups'][0])

    @property
    def states(self) -> dict[str, str]:
        """The lifecycle state of each of its instances."""
        return {each['InstanceId']: each['LifecycleState'] for each in self.described['Instances']}

    @property
    def activities(self) -> list[dict[str, Any]]:
        """Its activities, the newest first."""
        return list(self.api.describe_scaling_activities(AutoScalingGroupName=self.name)['Activities'])

    def wait_for(self, *states: str) -> list[str]:
        """Return its instances, when they are in these states."""
        eventually(lambda: sorted(self.states.values()) == sorted(states), f'{self.name}: {states}')
        return list(self.states)

    def complete(self, instance: str, result: str, hook: str = 'launch') -> None:
        """Complete the wait of an instance."""
        self.api.complete_lifecycle_action(AutoScalingGroupName=self.name, LifecycleHookName=hook,
                                           InstanceId=instance, LifecycleActionResult=result)

    def power(self, instance: str) -> str:
        """Return the state of an instance in EC2."""
        answer = self.ec2.describe_instances(InstanceIds=[instance])
        return str(answer['Reservations'][0]['Instances'][0]['State']['Name'])


def hook(name: str, transition: str = 'LAUNCHING', **options: Any) -> dict[str, Any]:
    return {'LifecycleHookName': name, 'LifecycleTransition': f'autoscaling:EC2_INSTANCE_{transition}',
            'HeartbeatTimeout': 60, **options}
