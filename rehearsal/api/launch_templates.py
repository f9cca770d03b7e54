"""Launch templates, where moto keeps or shows less than AWS."""

import sys
from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
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

    def delete_launch_template_versions(self) -> ActionResult:
        """Delete versions, except the default one; their numbers are not used again.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteLaunchTemplateVersions.html
        """
        self.error_on_dryrun()
        template = template_of(self)
        deleted, refused = [], []
        for number in map(int, self._get_param('Versions', [])):
            entry = {'LaunchTemplateId': template.id, 'LaunchTemplateName': template.name, 'VersionNumber': number}
            error = refusal_of_deletion(template, number)
            if error:
                refused.append({**entry, 'ResponseError': error})
            else:
                template.versions.remove(template.get_version(number))
                deleted.append(entry)
        return ActionResult({'SuccessfullyDeletedLaunchTemplateVersions': deleted,
                             'UnsuccessfullyDeletedLaunchTemplateVersions': refused})

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
        self.newest_number = number = getattr(self, 'newest_number', 0) + 1
        version = self.moto_create_version(data, description)
        version.number = number  # moto counts the versions, of which some may be deleted
        return version

    def get_version(self, number: Any) -> Any:
        """Return a version by its number, $Latest or $Default."""
        aliases = {'$latest': self.versions[-1].number, '$default': self.default_version_number}
        wanted = str(aliases.get(str(number).lower(), number))
        for version in self.versions:
            if str(version.number) == wanted:
                return version
        raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=number)

    def default_version(self) -> Any:
        """Return the default version."""
        return self.get_version(self.default_version_number)


class NewTemplates(Extension, extends=LaunchTemplateBackend):
    """New launch templates."""

    def create_launch_template(self, name: str, description: str, data: dict[str, Any], tags: Any) -> Any:
        """Keep the template's own tags out of its data, because its instances do not get them."""
        specifications = [each for each in data.pop('TagSpecifications', [])
                          if each['ResourceType'] != 'launch-template']
        data = {**data, **({'TagSpecifications': specifications} if specifications else {})}
        return self.moto_create_launch_template(name, description, data, tags)

    def describe_launch_template_versions(self, max_results: int, **which: Any) -> Any:
        """Return all versions: moto drops those beyond the first 15, which are further pages on AWS."""
        return self.moto_describe_launch_template_versions(max_results=sys.maxsize, **which)


def refusal_of_deletion(template: Any, number: int) -> dict[str, str] | None:
    """Return the error for a version that cannot be deleted."""
    if number == template.default_version_number:
        return {'Code': 'unexpectedError', 'Message': f'Version {number} is the default version of the template'}
    if number not in [version.number for version in template.versions]:
        return {'Code': 'launchTemplateVersionDoesNotExist', 'Message': f'There is no version {number}'}
    return None


def template_of(response: Any) -> Any:
    """Return the launch template that a request names."""
    name, key = response._get_param('LaunchTemplateName'), response._get_param('LaunchTemplateId')
    backend = response.ec2_backend
    return backend.get_launch_template(key) if key else backend.get_launch_template_by_name(name)
