"""Launch templates, where moto keeps them otherwise than AWS."""

from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.responses.launch_templates import LaunchTemplates

from rehearsal.api.patching import wrapping


def install() -> None:
    """Add what moto leaves out of launch templates."""
    @wrapping(LaunchTemplates, 'create_launch_template_version')
    def create_launch_template_version(original: Any, response: Any) -> Any:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html
        source = response._get_param('SourceVersion')
        if source:
            template = template_of(response)
            given = response._get_param('LaunchTemplateData', {})
            inherited = template.get_version(source).data
            given.update({name: value for name, value in inherited.items() if name not in given})
        return original(response)

    @wrapping(LaunchTemplate, 'create_version')
    def create_version(original: Any, template: Any, data: dict[str, Any], description: str) -> Any:
        if isinstance(data.get('UserData'), str):
            data['UserData'] = Base64EncodedString(data['UserData'])
        return original(template, data, description)

    @wrapping(LaunchTemplateBackend, 'create_launch_template')
    def create_launch_template(original: Any, backend: Any, name: str, description: str, data: dict[str, Any],
                               tags: Any) -> Any:
        # The template's own tags are none of what it launches.
        kept = [each for each in data.pop('TagSpecifications', []) if each['ResourceType'] != 'launch-template']
        return original(backend, name, description, {**data, **({'TagSpecifications': kept} if kept else {})}, tags)


def template_of(response: Any) -> Any:
    """Return the launch template that a request names."""
    name, key = response._get_param('LaunchTemplateName'), response._get_param('LaunchTemplateId')
    backend = response.ec2_backend
    return backend.get_launch_template(key) if key else backend.get_launch_template_by_name(name)
