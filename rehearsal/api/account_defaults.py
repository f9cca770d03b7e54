"""Defaults of an account in a region, which moto lacks: limits of public sharing, and metadata options.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-public-access-to-amis.html,
https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
"""

from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.settings import Settings

from rehearsal.api.patching import Extension

UNBLOCKED = 'unblocked'
METADATA = ('HttpTokens', 'HttpPutResponseHopLimit', 'HttpEndpoint', 'InstanceMetadataTags')
# With one of these values a client removes its default.
NO_PREFERENCE = ('no-preference', -1)


@dataclass
class Defaults:
    """The defaults of one account in one region."""

    images: str = UNBLOCKED
    snapshots: str = UNBLOCKED
    metadata: dict[str, Any] = field(default_factory=dict)


def defaults_of(backend: Any) -> Defaults:
    """Return the defaults that a backend of EC2 keeps."""
    defaults: Defaults = backend.__dict__.setdefault('rehearsal_defaults', Defaults())
    return defaults


class AccountDefaults(Extension, extends=Settings):
    """Actions that set and show the defaults."""

    def enable_image_block_public_access(self) -> ActionResult:
        """Refuse to share new AMIs with the public."""
        state = self._get_param('ImageBlockPublicAccessState')
        defaults_of(self.ec2_backend).images = state
        return ActionResult({'ImageBlockPublicAccessState': state})

    def disable_image_block_public_access(self) -> ActionResult:
        """Allow to share AMIs with the public."""
        defaults_of(self.ec2_backend).images = UNBLOCKED
        return ActionResult({'ImageBlockPublicAccessState': UNBLOCKED})

    def get_image_block_public_access_state(self) -> ActionResult:
        """Show whether AMIs can be shared with the public."""
        return ActionResult({'ImageBlockPublicAccessState': defaults_of(self.ec2_backend).images})

    def enable_snapshot_block_public_access(self) -> ActionResult:
        """Refuse to share snapshots with the public."""
        defaults_of(self.ec2_backend).snapshots = self._get_param('State')
        return ActionResult({'State': defaults_of(self.ec2_backend).snapshots})

    def disable_snapshot_block_public_access(self) -> ActionResult:
        """Allow to share snapshots with the public."""
        defaults_of(self.ec2_backend).snapshots = UNBLOCKED
        return ActionResult({'State': UNBLOCKED})

    def get_snapshot_block_public_access_state(self) -> ActionResult:
        """Show whether snapshots can be shared with the public."""
        return ActionResult({'State': defaults_of(self.ec2_backend).snapshots})

    def modify_instance_metadata_defaults(self) -> ActionResult:
        """Set the metadata options of instances whose launch names none."""
        options = {name: self._get_param(name) for name in METADATA}
        if options['HttpPutResponseHopLimit'] is not None:
            options['HttpPutResponseHopLimit'] = int(options['HttpPutResponseHopLimit'])
        metadata = {**defaults_of(self.ec2_backend).metadata,
                    **{name: value for name, value in options.items() if value is not None}}
        defaults_of(self.ec2_backend).metadata = {name: value for name, value in metadata.items()
                                                  if value not in NO_PREFERENCE}
        return ActionResult({'Return': True})

    def get_instance_metadata_defaults(self) -> ActionResult:
        """Show the metadata options of instances whose launch names none."""
        return ActionResult({'AccountLevel': defaults_of(self.ec2_backend).metadata})
