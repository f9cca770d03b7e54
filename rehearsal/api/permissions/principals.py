"""The callers behind keys: users, sessions of roles, and instances with a profile."""

from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
import json
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from rehearsal.api.permissions.conditions import Context
from rehearsal.api.permissions.policies import Policies, Policy
from rehearsal.api.permissions.requests import ROOT_KEY
from rehearsal.settings import ACCOUNT, ROLE_CREDENTIALS

PARTITION = 'aws'


class InvalidKey(ValueError):
    """The error that a key is unknown, or that its session token does not fit or has expired."""

    def __init__(self, message: str, has_expired: bool = False) -> None:
        """Keep whether the key was valid."""
        super().__init__(message)
        self.has_expired = has_expired


@dataclass(frozen=True)
class Principal:
    """A caller: its ARN, the name of its role or user, and its policies."""

    arn: str
    name: str
    policies: Policies
    # The ARNs by which a trust policy can name it.
    names: tuple[str, ...] = ()

    @property
    def context(self) -> Context:
        """The values about the caller that conditions can read."""
        return {'aws:principalarn': (self.names[0],), 'aws:principalaccount': (ACCOUNT,),
                'aws:username': (self.name,)}


def principal_of(key: str, token: str) -> Principal | None:
    """Return the caller with a key; None for the account's root, which the rehearsal's own key signs for."""
    if key == ROOT_KEY:
        return None
    user = iam().get_user_from_access_key_id(key)
    if user:
        return principal_of_user(user)
    session = sts_backends[ACCOUNT][PARTITION].get_assumed_role_from_access_key(key)
    if session:
        if token != session.session_token:
            raise InvalidKey('The security token included in the request is invalid.')
        if session.expiration < utcnow():
            raise InvalidKey('The security token included in the request is expired', has_expired=True)
        return principal_of_role(session.role_arn.rpartition('/')[2], session.session_name, session.policy)
    for instance in instances():
        is_signed = key == instance_key(instance.id) and token == ROLE_CREDENTIALS['Token']
        if is_signed and (role := role_of(instance)):
            return principal_of_role(role, instance.id)
    raise InvalidKey('The security token included in the request is invalid.')


def instance_key(instance: str) -> str:
    """Return the id of the key of an instance, which its metadata service hands out."""
    return 'ASIA' + b32encode(sha256(instance.encode()).digest())[:16].decode()


def role_of(instance: Any) -> str | None:
    """Return the name of the role in an instance's profile."""
    if not instance.iam_instance_profile:
        return None
    profiles = iam_backends[instance.owner_id][PARTITION].get_instance_profiles()
    arn = instance.iam_instance_profile['Arn']
    return next((role.name for profile in profiles if profile.arn == arn for role in profile.roles), None)


def instances() -> Iterator[Any]:
    """Yield the instances of all regions."""
    for backend in list(ec2_backends[ACCOUNT].values()):
        for reservation in list(backend.reservations.values()):
            yield from reservation.instances


def iam() -> Any:
    """Return moto's records of IAM."""
    return iam_backends[ACCOUNT][PARTITION]


def principal_of_role(name: str, session: str, session_policy: Any = None) -> Principal:
    """Return a session of a role."""
    role = next((role for role in iam().roles.values() if role.name == name), None)
    if role is None:
        raise InvalidKey('The security token included in the request is invalid.')
    own = [Policy(title, document(text)) for title, text in role.policies.items()]
    attached = [managed(policy) for policy in role.managed_policies.values()]
    limit = Policy('session', document(session_policy)) if session_policy else None
    arn = f'arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}'
    return Principal(arn, name, Policies((*own, *attached), boundary(role.permissions_boundary_arn), limit),
                     (role.arn, arn, *account()))


def principal_of_user(user: Any) -> Principal:
    """Return a user, with the policies of the groups that it is in."""
    own = [Policy(title, document(text)) for title, text in user.policies.items()]
    attached = [managed(policy) for policy in user.managed_policies.values()]
    for group in iam().get_groups_for_user(user.name):
        own += [Policy(title, document(text)) for title, text in group.policies.items()]
        attached += [managed(policy) for policy in group.managed_policies.values()]
    limit = boundary(getattr(user, 'permissions_boundary_arn', None))
    return Principal(user.arn, user.name, Policies((*own, *attached), limit), (user.arn, *account()))


def account() -> tuple[str, str]:
    """Return the names of the whole account in a trust policy."""
    return f'arn:aws:iam::{ACCOUNT}:root', ACCOUNT


def boundary(arn: str | None) -> Policy | None:
    """Return the policy that is a permissions boundary."""
    return managed(iam().managed_policies[arn]) if arn else None


def managed(policy: Any) -> Policy:
    """Return the default version of a managed policy."""
    version = next(each for each in policy.versions if each.is_default)
    return Policy(str(policy.name), document(version.document))


def document(text: Any) -> dict[str, Any]:
    """Return the document of a policy."""
    return dict(json.loads(text)) if isinstance(text, str) else dict(text)
