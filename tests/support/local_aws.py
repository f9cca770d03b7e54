"""The API of AWS for tests: one rehearsal without machines in their own process, reset for each of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.instance_role import policy_for_every_installation

# The instance type of the tests; other types differ in nothing that they check.
SIZE = 't3.small'


@pytest.fixture(scope='session')
def embedded() -> Iterator[EmbeddedRehearsal]:
    """Give a rehearsal without machines in this process, whose records are those of the tests before."""
    with EmbeddedRehearsal() as rehearsal:
        yield rehearsal


@pytest.fixture
def aws(embedded: EmbeddedRehearsal) -> EmbeddedRehearsal:
    """Give an API without resources, faults and calls."""
    embedded.reset()
    return embedded


def operations(aws: EmbeddedRehearsal) -> list[str]:
    """Return the operations that were called, in order."""
    return [call.operation for call in aws.faults.calls]


def texts_of(aws: EmbeddedRehearsal, operation: str) -> list[str]:
    """Return the texts of the calls of an operation, in order."""
    return [call.text for call in list(aws.faults.calls) if call.operation == operation]


def launch(aws: EmbeddedRehearsal, ami: str = '') -> str:
    """Return the id of a new instance in no group, by default of the source AMI."""
    launched = aws.client('ec2').run_instances(ImageId=ami or aws.source_ami, InstanceType=SIZE, MinCount=1,
                                               MaxCount=1)
    return str(launched['Instances'][0]['InstanceId'])


def make_profile(iam: Any, name: str) -> None:
    """Make an instance profile that holds a role of the same name with the policy of instances, by a client of IAM."""
    iam.create_role(RoleName=name, AssumeRolePolicyDocument='{}')
    iam.put_role_policy(RoleName=name, PolicyName='boot-and-serve', PolicyDocument=policy_for_every_installation())
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
