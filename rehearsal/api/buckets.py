"""Bucket policies of S3: moto applies a statement with a condition to every request, because it reads no condition.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html#example-bucket-policies-HTTP-HTTPS
"""

import json
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3.models import FakeBucket

from rehearsal.api.patching import Extension

# The API of a rehearsal speaks plain HTTP where AWS's speaks TLS, so its requests stand for ones with TLS.
WITHOUT_TLS = {'Bool': {'aws:SecureTransport': 'false'}}


class BucketPolicies(Extension, extends=FakeBucket):
    """The permissions that a bucket's policy gives."""

    def get_permission(self, action: str, resource: str) -> Any:
        """Return the policy's permission, without its statements against requests that lack TLS."""
        if self.policy is None:
            return PermissionResult.NEUTRAL
        policy = json.loads(self.policy)
        statements = policy['Statement'] if isinstance(policy['Statement'], list) else [policy['Statement']]
        applied = [statement for statement in statements if statement.get('Condition') != WITHOUT_TLS]
        return IAMPolicy(json.dumps({**policy, 'Statement': applied})).is_action_permitted(action, resource)
