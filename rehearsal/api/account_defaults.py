"""Defaults of an account in a region, which moto lacks: what may be shared with the public, and metadata options.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-public-access-to-amis.html,
https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
"""

from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.settings import Settings as Response

from rehearsal.api.patching import adding

UNBLOCKED = 'unblocked'
METADATA = ('HttpTokens', 'HttpPutResponseHopLimit', 'HttpEndpoint', 'InstanceMetadataTags')
# With these a client takes a default back; a hop limit of -1 does the same.
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


def install() -> None:
    """Add the actions that set and show them."""
    block_images()
    block_snapshots()
    choose_metadata_options()


def block_images() -> None:
    """Add whether new AMIs can be shared with the public."""
    @adding(Response)
    def enable_image_block_public_access(response: Any) -> ActionResult:
        state = response._get_param('ImageBlockPublicAccessState')
        defaults_of(response.ec2_backend).images = state
        return ActionResult({'ImageBlockPublicAccessState': state})

    @adding(Response)
    def disable_image_block_public_access(response: Any) -> ActionResult:
        defaults_of(response.ec2_backend).images = UNBLOCKED
        return ActionResult({'ImageBlockPublicAccessState': UNBLOCKED})

    @adding(Response)
    def get_image_block_public_access_state(response: Any) -> ActionResult:
        return ActionResult({'ImageBlockPublicAccessState': defaults_of(response.ec2_backend).images})


def block_snapshots() -> None:
    """Add whether snapshots can be shared with the public."""
    @adding(Response)
    def enable_snapshot_block_public_access(response: Any) -> ActionResult:
        defaults_of(response.ec2_backend).snapshots = response._get_param('State')
        return ActionResult({'State': defaults_of(response.ec2_backend).snapshots})

    @adding(Response)
    def disable_snapshot_block_public_access(response: Any) -> ActionResult:
        defaults_of(response.ec2_backend).snapshots = UNBLOCKED
        return ActionResult({'State': UNBLOCKED})

    @adding(Response)
    def get_snapshot_block_public_access_state(response: Any) -> ActionResult:
        return ActionResult({'State': defaults_of(response.ec2_backend).snapshots})


def choose_metadata_options() -> None:
    """Add the metadata options of instances that are launched without any."""
    @adding(Response)
    def modify_instance_metadata_defaults(response: Any) -> ActionResult:
        chosen = {name: response._get_param(name) for name in METADATA}
        if chosen['HttpPutResponseHopLimit'] is not None:
            chosen['HttpPutResponseHopLimit'] = int(chosen['HttpPutResponseHopLimit'])
        metadata = {**defaults_of(response.ec2_backend).metadata,
                    **{name: value for name, value in chosen.items() if value is not None}}
        defaults_of(response.ec2_backend).metadata = {name: value for name, value in metadata.items()
                                                      if value not in NO_PREFERENCE}
        return ActionResult({'Return': True})

    @adding(Response)
    def get_instance_metadata_defaults(response: Any) -> ActionResult:
        return ActionResult({'AccountLevel': defaults_of(response.ec2_backend).metadata})
