"""The pipeline's roles in terraform/bootstrap/, compared with the release tool, Packer, the pipeline and the stack."""

import ast
from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any

from botocore import xform_name
from botocore.session import get_session
import pytest
import yaml

from tests.support.documents import section
from tests.support.server import ROOT

BOOTSTRAP = ROOT / 'terraform' / 'bootstrap'
ROLES = (BOOTSTRAP / 'roles.tf').read_text(encoding='utf-8')
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / '.gitlab-ci.yml').read_text(encoding='utf-8'))
CALLS = ('call', 'content', 'items')
# S3 names the permission to list objects for the bucket.
SIGNED_AS = {'elbv2': 'elasticloadbalancing'}
PERMISSIONS = {'s3:ListObjectsV2': 's3:ListBucket'}
ACTION = re.compile(r'"([a-z0-9-]+:[A-Z][A-Za-z0-9]+)"')
MODULES = {path.stem for path in (ROOT / 'release').glob('*.py')}
# The modules of `roll`, `rollback` and `status`, which run with the role that applies and rolls.
OF_ROLLING = {'group', 'page', 'preflight', 'roll', 'rolls', 'status'}
# The modules of `prune` and `sweep`, which no other verb calls, and those that they share with the others.
OF_PRUNING = {'prune', 'references', 'retention', 'sweep'}
CALLED_BY_PRUNING = {'amis', 'artefacts', 'ec2', 'leftovers', 'lock', 'removal', 'uses'}
# The permissions of Packer's own document, without those for Windows, spot instances and copies to other regions.
# https://developer.hashicorp.com/packer/integrations/hashicorp/amazon#iam-task-or-instance-role
DOCUMENTED_BY_PACKER = {
    'ec2:AttachVolume', 'ec2:AuthorizeSecurityGroupIngress', 'ec2:CreateImage', 'ec2:CreateKeyPair',
    'ec2:CreateSecurityGroup', 'ec2:CreateSnapshot', 'ec2:CreateTags', 'ec2:CreateVolume', 'ec2:DeleteKeyPair',
    'ec2:DeleteSecurityGroup', 'ec2:DeleteSnapshot', 'ec2:DeleteVolume', 'ec2:DeregisterImage',
    'ec2:DescribeImageAttribute', 'ec2:DescribeImages', 'ec2:DescribeInstances', 'ec2:DescribeInstanceStatus',
    'ec2:DescribeRegions', 'ec2:DescribeSecurityGroups', 'ec2:DescribeSnapshots', 'ec2:DescribeSubnets',
    'ec2:DescribeTags', 'ec2:DescribeVolumes', 'ec2:DetachVolume', 'ec2:ModifyImageAttribute',
    'ec2:ModifyInstanceAttribute', 'ec2:ModifySnapshotAttribute', 'ec2:RegisterImage', 'ec2:RunInstances',
    'ec2:StopInstances', 'ec2:TerminateInstances'}
# The calls of the source amazon-ebs with the settings of packer/ami.pkr.hcl, by the plugin's source.
CALLED_BY_PACKER = {
    'ec2:AuthorizeSecurityGroupIngress', 'ec2:CreateImage', 'ec2:CreateKeyPair', 'ec2:CreateSecurityGroup',
    'ec2:CreateTags', 'ec2:DeleteKeyPair', 'ec2:DeleteSecurityGroup', 'ec2:DeleteSnapshot', 'ec2:DeleteVolume',
    'ec2:DeregisterImage', 'ec2:DescribeImages', 'ec2:DescribeInstances', 'ec2:DescribeSecurityGroups',
    'ec2:DescribeSubnets', 'ec2:DescribeVolumes', 'ec2:ModifyImageAttribute', 'ec2:ModifyInstanceAttribute',
    'ec2:RunInstances', 'ec2:StopInstances', 'ec2:TerminateInstances'}


def policy(name: str) -> str:
    """Return the text of a policy of the roles, without the keys and values of its conditions."""
    opening = {'read': '  reads =', 'write': '  writes ='}.get(name, f'resource "aws_iam_role_policy" "{name}"')
    match = re.search(rf'^{re.escape(opening)} [^\n]*[\[{{]\n(.*?)^}}', ROLES, re.MULTILINE | re.DOTALL)
    assert match, f'roles.tf has no policy {name}'
    return re.sub(r'"(?:aws|ec2|iam|kms|route53):[^"]*"(?= +=)|"iam:PassedToService"', '', match[1])


def granted(name: str) -> set[str]:
    return set(ACTION.findall(policy(name)))


def actions_in(path: Path) -> set[str]:
    """Return the actions that a file of Terraform names, without the keys of its conditions."""
    return set(ACTION.findall(path.read_text(encoding='utf-8')))


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def called_by_the_release_tool(*modules: str) -> set[str]:
    """Return the actions of all operations that modules of release/ name, in a call or as an argument."""
    trees = [ast.parse(path.read_text(encoding='utf-8')) for path in (ROOT / 'release').glob('*.py')
             if path.stem in modules]
    services = {node.args[0].value for tree in trees for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS
                if len(node.args) > 1 and isinstance(node.args[0], ast.Constant)}
    names = {text for tree in trees for text in strings(tree)}
    session = get_session()
    actions = {f'{SIGNED_AS.get(service, service)}:{operation}' for service in services if isinstance(service, str)
               for operation in session.get_service_model(service).operation_names if xform_name(operation) in names}
    return {PERMISSIONS.get(action, action) for action in actions}


def test_the_release_tool_calls_the_operations_that_this_file_finds() -> None:
    called = called_by_the_release_tool(*MODULES)
    assert {'ec2:DeleteVolume', 'ec2:DescribeFleets', 'ec2:DescribeKeyPairs', 'ssm:PutParameter'} <= called
    assert {action.partition(':')[0] for action in called} == {
        'autoscaling', 'cloudwatch', 'ec2', 'elasticloadbalancing', 's3', 'ssm'}


def test_the_role_of_the_bake_allows_the_calls_of_the_release_tool_and_of_packer_and_no_more() -> None:
    assert CALLED_BY_PACKER <= DOCUMENTED_BY_PACKER
    assert granted('bake') == called_by_the_release_tool(*MODULES - OF_PRUNING - OF_ROLLING) | CALLED_BY_PACKER


def test_the_role_that_applies_allows_the_calls_of_a_roll_and_its_status() -> None:
    called = called_by_the_release_tool(*OF_ROLLING, 'ec2', 'artefacts') - {'s3:DeleteObject'}
    assert {'autoscaling:StartInstanceRefresh', 'cloudwatch:DescribeAlarms', 's3:GetObject'} <= called
    assert called <= granted('read') | granted('write') | {'ec2:DescribeInstances'}  # of other verbs


def test_the_role_that_prunes_allows_the_calls_of_prune_and_sweep_and_no_more() -> None:
    allowed = granted('prune')
    assert called_by_the_release_tool(*OF_PRUNING, 'uses', 'leftovers') <= allowed
    assert allowed <= called_by_the_release_tool(*OF_PRUNING, *CALLED_BY_PRUNING)
    assert 'ec2:DescribeImageReferences' in allowed and 'ec2:RunInstances' not in allowed


def test_the_template_still_has_the_settings_on_which_packers_calls_depend() -> None:
    template = (ROOT / 'packer' / 'ami.pkr.hcl').read_text(encoding='utf-8')
    assert 'skip_region_validation  = true' in template, 'otherwise Packer calls DescribeRegions'
    assert 'ena_support   = true' in template, 'otherwise Packer does not call ModifyInstanceAttribute'
    for setting in ('ami_regions', 'encrypt_boot ', 'force_deregister', 'vpc_filter', 'spot_price', 'snapshot_users'):
        assert not re.search(rf'^\s+{setting}\s*=', template, re.MULTILINE), f'{setting} needs more permissions'
    (debian,) = set(re.findall(r'owners +=\s*\["(\d+)"\]', template))
    assert f'"ec2:Owner" = "{debian}"' in ROLES


def test_the_operations_list_the_actions_of_the_bake() -> None:
    listed = set()
    for service, names in re.findall(r'^- On `([a-z0-9]+)`[^:]*: ([^.]+)\.', section(
            'docs/operations.md', 'Permissions of the bake role'), re.MULTILINE):
        listed |= {f'{service}:{name}' for name in re.findall(r'[A-Z][A-Za-z0-9]+', names)}
    assert listed == granted('bake')


@pytest.mark.parametrize('job', ['bake', 'remove-ami'])
def test_a_job_of_the_bake_asks_for_a_token_that_its_role_accepts(job: str) -> None:
    assert PIPELINE[job]['extends'] == '.aws'
    assert PIPELINE[job]['variables']['AWS_ROLE_ARN'] == '$BAKE_ROLE_ARN'
    assert PIPELINE['.aws']['id_tokens']['AWS_OIDC']['aud'] == 'visitors-bake'
    assert 'roles        = concat(["visitors-bake", "visitors-prune"]' in ROLES
    assert '"${local.issuer}:aud" = each.key' in ROLES


@pytest.mark.parametrize('service', sorted({action.partition(':')[0] for name in ('bake', 'prune', 'read', 'write')
                                            for action in granted(name)} - {'s3'}))
def test_every_action_is_an_operation_of_its_service(service: str) -> None:
    api = {'cloudwatch': 'cloudwatch', 'elasticloadbalancing': 'elbv2'}.get(service, service)
    operations = set(get_session().get_service_model(api).operation_names)
    # Actions that no operation has as its name.
    operations |= {
        'elasticloadbalancing': {
            'CreateWebACLAssociation', 'DeleteWebACLAssociation', 'GetLoadBalancerWebACL', 'SetWebAcl'},
        'iam': {'PassRole'},
    }.get(service, set())
    actions = {action.partition(':')[2] for name in ('bake', 'prune', 'read', 'write') for action in granted(name)
               if action.startswith(f'{service}:')}
    assert actions <= operations


def test_the_state_of_an_environment_is_where_its_role_may_write_it() -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert "-backend-config=key='$(ENVIRONMENT).tfstate'" in makefile
    assert '/${environment}.tfstate"' in ROLES
    stack = (ROOT / 'terraform' / 'main.tf').read_text(encoding='utf-8')
    assert re.search(r'name += "visitors-\$\{var\.environment}"', stack)
    assert re.search(r'parameter_prefix += "/visitors/\$\{var\.environment}"', stack)


def test_the_domains_of_the_operations_are_those_of_the_environments() -> None:
    text = section('docs/operations.md', 'Apply the stack')
    for path in (ROOT / 'terraform' / 'environments').glob('*.tfvars'):
        (domain,) = re.findall(r'^domain_name += "(.*)"$', path.read_text(encoding='utf-8'), re.MULTILINE)
        assert re.search(rf'{path.stem} += {{ domain_name = "{re.escape(domain)}" }}', text)


def named_by_the_modules() -> set[str]:
    """Return the ends of names after the installation's name, as the modules of the stack write them."""
    sources = [path.read_text(encoding='utf-8') for path in (ROOT / 'terraform' / 'modules').rglob('*.tf')]
    return {name for source in sources for name in re.findall(r'\$\{var\.name}-([a-z]+(?:-[a-z]+)*)', source)}


@pytest.mark.parametrize('end', ['access-logs', 'flow-logs', 'instance', 'on-call'])
def test_a_name_in_a_role_is_a_name_of_the_stack(end: str) -> None:
    assert f'visitors-${{environment}}-{end}' in ROLES
    assert end in named_by_the_modules()


def test_this_file_reads_every_policy_of_the_roles() -> None:
    policies = re.findall(r'^resource "aws_iam_(?:role_)?policy" "(\w+)"', ROLES, re.MULTILINE)
    assert policies == ['bake', 'prune', 'review', 'read', 'write']
    assert all(len(granted(name)) > 30 for name in ('bake', 'read', 'write'))
    others = [path.name for path in BOOTSTRAP.glob('*.tf') if 'aws_iam_role' in path.read_text(encoding='utf-8')]
    assert sorted(others) == ['outputs.tf', 'roles.tf']


def test_a_review_may_do_nothing_that_a_plan_may_not() -> None:
    assert granted('review') and granted('review') < granted('read')


def test_the_boundary_allows_the_actions_of_the_roles_that_the_stack_creates_and_no_more() -> None:
    stack = {action for name in ('service/permissions.tf', 'network/flow-logs.tf')
             for action in actions_in(ROOT / 'terraform' / 'modules' / name)}
    assert len(stack) > 10, 'this test looks in the wrong place'
    assert actions_in(BOOTSTRAP / 'boundary.tf') == stack - {'sts:AssumeRole'}  # of the roles' trust policies
    assert 'policy/${local.name}-boundary"' in (ROOT / 'terraform' / 'main.tf').read_text(encoding='utf-8')
    assert 'policy/visitors-${environment}-boundary"' in ROLES


def test_every_role_of_the_stack_has_the_boundary() -> None:
    roles = [role for path in (ROOT / 'terraform' / 'modules').rglob('*.tf') for role in re.findall(
        r'^resource "aws_iam_role" .*?^}', path.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)]
    assert len(roles) == 2
    assert all(re.search(r'permissions_boundary += var\.permissions_boundary_arn', role) for role in roles)
