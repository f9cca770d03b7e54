"""The role of the instances, with the policy that terraform/ gives it."""

import json
import re
from typing import Any

import hcl2

from tests.support.server import ROOT

FILE = ROOT / 'terraform' / 'modules' / 'service' / 'tests' / 'service.tftest.hcl'
# `terraform test` compares the rendered policy with this list, so both are equal: `make check-terraform`.
STATEMENTS = re.compile(r'aws_iam_role_policy\.instance\.policy\)\.Statement == (\[\n.*?\n    \])', re.DOTALL)

# The names in that file.
NAMES = {'region': ':eu-central-1:', 'group': 'autoScalingGroupName/visitors-test', 'prefix': '/visitors/test',
         'owner_secret': 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1',
         'visitor_key': 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:visitors/test/visitor-key-1'}


def instance_statements(**replaced: str) -> list[dict[str, Any]]:
    """Return the statements of the role's policy; names are replaced in the given order."""
    match = STATEMENTS.search(FILE.read_text(encoding='utf-8'))
    assert match, f'{FILE} does not compare the policy of the instances'
    text = match[1]
    for name, value in replaced.items():
        text = text.replace(NAMES[name], value)
    return [plain(each) for each in hcl2.loads(f'statements = {text}\n')['statements']]


def policy_for_every_installation() -> str:
    """Return the policy with the same actions and conditions, for whatever name an installation of a test has."""
    secrets = 'arn:aws:secretsmanager:*:123456789012:secret:*'
    statements = instance_statements(owner_secret=secrets, visitor_key=secrets, group='autoScalingGroupName/*',
                                     region=':*:', prefix='/*')
    return json.dumps({'Version': '2012-10-17', 'Statement': statements})


def plain(value: Any) -> Any:
    """Return a value of HCL without the quotes that its parser keeps."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items() if not str(key).startswith('__')}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value
