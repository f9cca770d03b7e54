"""The resources that name AMIs, as EC2 finds them: instances, launch templates and parameters.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-ami-references.html and
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageReferences.html
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.amis import AmisResponse
from moto.ssm.models import ssm_backends

from rehearsal.api.patching import Extension

INSTANCE, TEMPLATE, PARAMETER = 'ec2:Instance', 'ec2:LaunchTemplate', 'ssm:Parameter'
# The rehearsal has no Image Builder, so these types have no resources.
RECIPES = ('imagebuilder:ImageRecipe', 'imagebuilder:ContainerRecipe')
STATES, DEPTH = 'state-name', 'version-depth'
DEFAULT_DEPTH = '10'
IMAGE = 'aws:ec2:image'  # the data type of a parameter that EC2 checks


class ImageReferences(Extension, extends=AmisResponse):
    """The action that shows the resources that name AMIs."""

    def describe_image_references(self) -> ActionResult:
        """Show the resources of the requested types that name one of the AMIs."""
        self.error_on_dryrun()
        types = {each['ResourceType']: {option['OptionName']: option['OptionValues']
                                        for option in each.get('ResourceTypeOptions', [])}
                 for each in self._get_param('ResourceTypes', [])}
        if self._get_bool_param('IncludeAllResourceTypes', False):
            types = {**{kind: {} for kind in (INSTANCE, TEMPLATE, PARAMETER, *RECIPES)}, **types}
        if not types:
            raise EC2ClientError('MissingParameter', 'Either IncludeAllResourceTypes or ResourceTypes must be given')
        amis, owner = self._get_param('ImageIds', []), f'{self.region}:{self.current_account}'
        parameters = ssm_backends[self.current_account][self.region]
        return ActionResult({'ImageReferences': [
            {'ImageId': ami, 'ResourceType': kind, 'Arn': f'arn:aws:{kind.partition(":")[0]}:{owner}:{name}'}
            for kind, ami, name in references(self.ec2_backend, parameters, types) if ami in amis]})


def references(ec2: Any, parameters: Any, types: Mapping[str, Mapping[str, Collection[str]]],
               ) -> Iterator[tuple[str, str, str]]:
    """Yield each reference of the types: its type, the AMI, and the resource's name in its ARN."""
    if INSTANCE in types:
        states = types[INSTANCE].get(STATES)
        for instance in ec2.all_instances():
            if states is None or instance.state in states:
                yield INSTANCE, instance.image_id, f'instance/{instance.id}'
    if TEMPLATE in types:
        (depth,) = types[TEMPLATE].get(DEPTH) or [DEFAULT_DEPTH]
        for template in ec2.launch_templates.values():
            for ami in dict.fromkeys(version.image_id for version in template.versions[-int(depth):]):
                yield TEMPLATE, ami, f'launch-template/{template.id}'
    if PARAMETER in types:
        for versions in parameters._parameters.values():
            if versions[-1].data_type == IMAGE:
                yield PARAMETER, versions[-1].value, f'parameter/{versions[-1].name.lstrip("/")}'
