"""The user data of this instance, as instance.env holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import re

from instance.errors import StepFailed

PREFIX = re.compile(r'(/[A-Za-z0-9_.-]+)+')
LABEL = re.compile(r'[A-Za-z0-9._:/+-]{1,128}')  # the same form as in the application
REGION = re.compile('[a-z0-9-]+')
NAMES = ('PARAMETER_PREFIX', 'AWS_REGION', 'DEPLOY_ID', 'LIFECYCLE_HOOK', 'AUTO_SCALING_GROUP', 'LOG_GROUP',
         'SELFTEST')
SDK = 'AWS_'
# Characters that end a line for one reader of a file and not for another one, or that control a terminal.
CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


@dataclass(frozen=True)
class UserData:
    """The settings of the user data; all other settings are in the AMI or in the Parameter Store."""

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
        """Return the settings of lines of NAME=VALUE; raise StepFailed for the first bad line."""
        values = _values(text)
        selftest = _switch(values, 'SELFTEST')
        prefix = _matching(values, 'PARAMETER_PREFIX', PREFIX, '/visitors/production', not selftest)
        return cls(
            parameter_prefix=prefix,
            region=_matching(values, 'AWS_REGION', REGION, 'eu-central-1', not selftest),
            deploy_id=_matching(values, 'DEPLOY_ID', LABEL, '7/ami-0123456789abcdef0', not selftest),
            lifecycle_hook=values.get('LIFECYCLE_HOOK', ''),
            auto_scaling_group=values.get('AUTO_SCALING_GROUP', ''),
            log_group=values.get('LOG_GROUP') or prefix,
            selftest=selftest,
            sdk={name: value for name, value in values.items() if name.startswith(SDK) and value},
        )

    @classmethod
    def legible(cls, text: str) -> 'UserData':
        """Return the settings of the legible lines, unchecked."""
        lines = (line.partition('=') for line in text.split('\n') if not line.startswith('#'))
        values = {name: value.strip() for name, separator, value in lines if separator}
        fields = {name: values.get(name, '') for name in NAMES}
        prefix = fields['PARAMETER_PREFIX']
        return cls(prefix, fields['AWS_REGION'], fields['DEPLOY_ID'], fields['LIFECYCLE_HOOK'],
                   fields['AUTO_SCALING_GROUP'], fields['LOG_GROUP'] or prefix, fields['SELFTEST'] == '1',
                   {name: value for name, value in values.items() if name.startswith(SDK) and value})


def _values(text: str) -> dict[str, str]:
    values = {}
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip() or line.startswith('#'):
            continue
        name, separator, value = line.partition('=')
        if not separator or not re.fullmatch('[A-Z][A-Z0-9_]*', name):
            raise StepFailed(f'instance.env: line {number} is not NAME=VALUE')
        # A misspelt name would otherwise count as a setting that is not set.
        if name not in NAMES and not name.startswith(SDK):
            proxy = '; an instance needs VPC endpoints or NAT, it uses no proxy' if name.endswith('_PROXY') else ''
            raise StepFailed(f'instance.env: unknown name {name}; use {", ".join(NAMES)} and {SDK}*{proxy}')
        values[name] = value.strip()
        if control := CONTROL.search(values[name]):
            raise StepFailed(f'instance.env: {name} has the control character U+{ord(control[0]):04X}; delete it')
    return values


def _switch(values: Mapping[str, str], name: str) -> bool:
    value = values.get(name, '')
    if value not in ('', '0', '1'):
        raise StepFailed(f'instance.env: {name}={value}: use 1, or omit it')
    return value == '1'


def _matching(values: Mapping[str, str], name: str, form: re.Pattern[str], example: str, is_required: bool) -> str:
    value = values.get(name, '')
    if not value and not is_required:
        return ''
    if not form.fullmatch(value):
        raise StepFailed(f'instance.env: {name}={value}: use a value like {example}')
    return value
