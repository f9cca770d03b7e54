"""Bucket policies of S3: moto denies whatever a statement with a condition speaks of, and asks no condition.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html#example-bucket-policies-HTTP-HTTPS
"""

import json
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3.models import FakeBucket

from rehearsal.api.patching import wrapping

# The API of a rehearsal speaks plain HTTP where AWS's speaks TLS, so its requests stand for ones with TLS.
WITHOUT_TLS = {'Bool': {'aws:SecureTransport': 'false'}}


def install() -> None:
    """Let a statement against requests without TLS concern none."""
    @wrapping(FakeBucket, 'get_permission')
    def get_permission(original: Any, bucket: Any, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return PermissionResult.NEUTRAL
        policy = json.loads(bucket.policy)
        statements = policy['Statement'] if isinstance(policy['Statement'], list) else [policy['Statement']]
        kept = [statement for statement in statements if statement.get('Condition') != WITHOUT_TLS]
        return IAMPolicy(json.dumps({**policy, 'Statement': kept})).is_action_permitted(action, resource)
