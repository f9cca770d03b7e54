"""The resources that name AMIs by EC2's own account: a second opinion beside uses.py, which reads descriptions itself.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-ami-references.html
"""

from collections.abc import Sequence
from dataclasses import dataclass

from release.aws import Aws
from release.ec2 import ALIVE

AMIS = 10  # in one call, the maximum
TEMPLATE = 'ec2:LaunchTemplate'
# All versions of a template, not the newest ten; no terminated instance, because it does not need its AMI.
TYPES = [
    {'ResourceType': 'ec2:Instance', 'ResourceTypeOptions': [
        {'OptionName': 'state-name', 'OptionValues': ['shutting-down', *ALIVE]}]},
    {'ResourceType': TEMPLATE, 'ResourceTypeOptions': [{'OptionName': 'version-depth', 'OptionValues': ['10000']}]},
]


@dataclass(frozen=True)
class Reference:
    """A resource that names an AMI."""

    ami: str
    kind: str
    arn: str

    @property
    def name(self) -> str:
        """The name of the resource: the end of its ARN."""
        return self.arn.rpartition('/')[2]

    def __str__(self) -> str:
        """Return it for people."""
        return f'EC2 lists {self.arn.rpartition(":")[2]} as a reference'


def references(aws: Aws, ami_ids: Sequence[str]) -> list[Reference]:
    """Return the resources of this account and region that name one of these AMIs."""
    return [Reference(each['ImageId'], each['ResourceType'], each['Arn'])
            for first in range(0, len(ami_ids), AMIS)
            for each in aws.items('ec2', 'describe_image_references', 'ImageReferences', IncludeAllResourceTypes=True,
                                  ImageIds=list(ami_ids[first:first + AMIS]), ResourceTypes=TYPES)]
