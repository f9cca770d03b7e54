"""What the user data has told this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import re

from instance.errors import StepFailed

PREFIX = re.compile(r'(/[A-Za-z0-9_.-]+)+')
LABEL = re.compile(r'[A-Za-z0-9._:/+-]{1,128}')  # what the application takes for the name of a deploy
REGION = re.compile('[a-z0-9-]+')
NAMES = ('PARAMETER_PREFIX', 'AWS_REGION', 'DEPLOY_ID', 'LIFECYCLE_HOOK', 'AUTO_SCALING_GROUP', 'LOG_GROUP',
         'SELFTEST')
SDK = 'AWS_'
# What one reader of a file takes for the end of a line and another one does not, and what a terminal obeys.
CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


@dataclass(frozen=True)
class UserData:
    """What the user data has told this machine; everything else is in its image or in the Parameter Store."""

    parameter_prefix: str = ''
    region: str = ''
    deploy_id: str = ''
    lifecycle_hook: str = ''
    auto_scaling_group: str = ''
    log_group: str = ''
    selftest: bool = False
    sdk: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str) -> 'UserData':
        """Return the settings that lines of NAME=VALUE hold; raise StepFailed for the first bad one."""
        given = _given(text)
        selftest = _switch(given, 'SELFTEST')
        prefix = _matching(given, 'PARAMETER_PREFIX', PREFIX, '/visitors/production', not selftest)
        return cls(
            parameter_prefix=prefix,
            region=_matching(given, 'AWS_REGION', REGION, 'eu-central-1', not selftest),
            deploy_id=_matching(given, 'DEPLOY_ID', LABEL, '7/ami-0123456789abcdef0', not selftest),
            lifecycle_hook=given.get('LIFECYCLE_HOOK', ''),
            auto_scaling_group=given.get('AUTO_SCALING_GROUP', ''),
            log_group=given.get('LOG_GROUP') or prefix,
            selftest=selftest,
            sdk={name: value for name, value in given.items() if name.startswith(SDK) and value},
        )

    @classmethod
    def legible(cls, text: str) -> 'UserData':
        """Return as much as can be read of lines of which some are bad, unchecked."""
        lines = (line.partition('=') for line in text.split('\n') if not line.startswith('#'))
        given = {name: value.strip() for name, separator, value in lines if separator}
        told = {name: given.get(name, '') for name in NAMES}
        return cls(told['PARAMETER_PREFIX'], told['AWS_REGION'], told['DEPLOY_ID'], told['LIFECYCLE_HOOK'],
                   told['AUTO_SCALING_GROUP'], told['LOG_GROUP'] or told['PARAMETER_PREFIX'], told['SELFTEST'] == '1',
                   {name: value for name, value in given.items() if name.startswith(SDK) and value})


def _given(text: str) -> dict[str, str]:
    given = {}
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip() or line.startswith('#'):
            continue
        name, separator, value = line.partition('=')
        if not separator or not re.fullmatch('[A-Z][A-Z0-9_]*', name):
            raise StepFailed(f'instance.env: line {number} is not NAME=VALUE')
        # A name that is spelt wrong would otherwise be one that is not set.
        if name not in NAMES and not name.startswith(SDK):
            proxy = '; a machine needs VPC endpoints or NAT, it uses no proxy' if name.endswith('_PROXY') else ''
            raise StepFailed(f'instance.env: {name} is not known; known are {", ".join(NAMES)} and {SDK}*{proxy}')
        given[name] = value.strip()
        if control := CONTROL.search(given[name]):
            raise StepFailed(f'instance.env: {name} has the control character U+{ord(control[0]):04X}; delete it')
    return given


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, '')
    if value not in ('', '0', '1'):
        raise StepFailed(f'instance.env: {name}={value}: use 1, or leave it out')
    return value == '1'


def _matching(given: Mapping[str, str], name: str, form: re.Pattern[str], example: str, needed: bool) -> str:
    value = given.get(name, '')
    if not value and not needed:
        return ''
    if not form.fullmatch(value):
        raise StepFailed(f'instance.env: {name}={value}: use a value like {example}')
    return value
