"""Launch templates, where moto keeps or shows less than AWS."""

from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ssm.models import ssm_backends

from rehearsal.api.patching import Extension

ALIAS = 'resolve:ssm:'


class TemplateActions(Extension, extends=LaunchTemplates):
    """Actions on launch templates."""

    def create_launch_template_version(self) -> Any:
        """Make a version that inherits from its source version.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html
        """
        source = self._get_param('SourceVersion')
        if source:
            data = self._get_param('LaunchTemplateData', {})
            inherited = template_of(self).get_version(source).data
            data.update({name: value for name, value in inherited.items() if name not in data})
        return self.moto_create_launch_template_version()

    def describe_launch_template_versions(self) -> Any:
        """Show versions, with the AMI's id in place of its alias where the request says so.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeLaunchTemplateVersions.html
        """
        answer = self.moto_describe_launch_template_versions()
        if self._get_bool_param('ResolveAlias', False):
            for version in answer.result['LaunchTemplateVersions']:
                version['LaunchTemplateData'] = self._resolved(version['LaunchTemplateData'])
        return answer

    def _resolved(self, data: dict[str, Any]) -> dict[str, Any]:
        alias = str(data.get('ImageId', ''))
        if not alias.startswith(ALIAS):
            return data
        parameter = ssm_backends[self.current_account][self.region].get_parameter(alias.removeprefix(ALIAS))
        return {**data, 'ImageId': parameter.value} if parameter else data


class TemplateVersions(Extension, extends=LaunchTemplate):
    """The versions of a launch template."""

    def create_version(self, data: dict[str, Any], description: str) -> Any:
        """Keep user data as the text in base64 that the API shows."""
        if isinstance(data.get('UserData'), str):
            data['UserData'] = Base64EncodedString(data['UserData'])
        return self.moto_create_version(data, description)


class NewTemplates(Extension, extends=LaunchTemplateBackend):
    """New launch templates."""

    def create_launch_template(self, name: str, description: str, data: dict[str, Any], tags: Any) -> Any:
        """Keep the template's own tags out of its data, because its instances do not get them."""
        specifications = [each for each in data.pop('TagSpecifications', [])
                          if each['ResourceType'] != 'launch-template']
        data = {**data, **({'TagSpecifications': specifications} if specifications else {})}
        return self.moto_create_launch_template(name, description, data, tags)


def template_of(response: Any) -> Any:
    """Return the launch template that a request names."""
    name, key = response._get_param('LaunchTemplateName'), response._get_param('LaunchTemplateId')
    backend = response.ec2_backend
    return backend.get_launch_template(key) if key else backend.get_launch_template_by_name(name)
