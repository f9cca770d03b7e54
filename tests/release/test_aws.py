"""The failures of calls to AWS: each is one sentence with advice."""

from datetime import datetime, timezone

from botocore.exceptions import ClientError, ParamValidationError
import pytest

from release.aws import Aws, moment_of, translated
from release.errors import AwsFailed, NotReady
from tests.support.account import Account, REGION
from tests.support.postgresql import free_port


@pytest.fixture
def settings(account: Account, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give the environment, which names the account of the test."""
    for name in ('AWS_PROFILE', 'AWS_DEFAULT_REGION', 'AWS_REGION'):
        monkeypatch.delenv(name, raising=False)
    files = {'AWS_CONFIG_FILE': 'none', 'AWS_SHARED_CREDENTIALS_FILE': 'none'}
    for name, value in {**account.environment, **files}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def identity(region: str = REGION) -> object:
    """Return the account of the credentials, according to AWS."""
    return Aws({'AWS_REGION': region}).call('sts', 'get_caller_identity')['Account']


def test_aws_region_counts_and_an_option_counts_more(settings: pytest.MonkeyPatch) -> None:
    assert Aws({'AWS_REGION': 'eu-west-1'}).region == 'eu-west-1'
    assert Aws({'AWS_REGION': 'eu-west-1'}, 'eu-west-3').region == 'eu-west-3'
    settings.setenv('AWS_DEFAULT_REGION', 'eu-west-2')
    assert Aws({}).region == 'eu-west-2'


def test_missing_credentials_are_asked_for(settings: pytest.MonkeyPatch) -> None:
    settings.delenv('AWS_ACCESS_KEY_ID')
    settings.delenv('AWS_SECRET_ACCESS_KEY')
    with pytest.raises(NotReady, match='no AWS credentials .*set AWS_PROFILE, or AWS_ACCESS_KEY_ID'):
        identity()


def test_a_missing_profile_is_named(settings: pytest.MonkeyPatch) -> None:
    settings.setenv('AWS_PROFILE', 'nobody')
    with pytest.raises(NotReady, match='nobody'):
        identity()


def test_a_missing_token_file_is_named(settings: pytest.MonkeyPatch) -> None:
    settings.delenv('AWS_ACCESS_KEY_ID')
    settings.delenv('AWS_SECRET_ACCESS_KEY')
    settings.setenv('AWS_ROLE_ARN', 'arn:aws:iam::123456789012:role/bake')
    settings.setenv('AWS_WEB_IDENTITY_TOKEN_FILE', 'no-such-token')
    with pytest.raises(NotReady, match='no-such-token'):
        identity()


@pytest.mark.parametrize('region', ['Frankfurt', 'eu central 1'])
def test_an_impossible_region_is_refused(settings: pytest.MonkeyPatch, region: str) -> None:
    settings.delenv('AWS_ENDPOINT_URL')
    with pytest.raises((NotReady, AwsFailed), match=region):
        identity(region)


def test_an_aws_that_does_not_answer_is_reported_with_the_region(settings: pytest.MonkeyPatch) -> None:
    settings.setenv('AWS_ENDPOINT_URL', f'http://localhost:{free_port()}')
    with pytest.raises(AwsFailed, match=r'sts in the region eu-nowhere-1 does not answer.*eu-nowhere-1. is no region'):
        identity('eu-nowhere-1')


@pytest.mark.parametrize(('code', 'kind', 'says'), [
    ('InvalidClientTokenId', NotReady, 'does not accept these credentials'),
    ('AuthFailure', NotReady, 'does not accept these credentials'),
    ('ExpiredToken', NotReady, 'have expired'),
    ('RequestExpired', NotReady, 'have expired'),
    ('UnauthorizedOperation', NotReady, 'may not call RunInstances'),
    ('AccessDeniedException', NotReady, 'may not call RunInstances'),
    ('InstanceLimitExceeded', AwsFailed, 'RunInstances: InstanceLimitExceeded: why'),
])
def test_a_refusal_becomes_a_sentence(code: str, kind: type[Exception], says: str) -> None:
    error = ClientError({'Error': {'Code': code, 'Message': 'why'}}, 'RunInstances')
    failure = translated(error, 'ec2', 'run_instances', REGION)
    assert isinstance(failure, kind)
    assert says in str(failure)
    assert 'why' in str(failure) or code in str(failure)


def test_a_programming_error_is_raised_unchanged(settings: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamValidationError):
        Aws({'AWS_REGION': REGION}).call('ec2', 'run_instances', ImageId=7)


def test_a_failure_keeps_the_code_and_the_message_of_aws(settings: pytest.MonkeyPatch) -> None:
    with pytest.raises(AwsFailed) as caught:
        Aws({'AWS_REGION': REGION}).call('ec2', 'describe_images', ImageIds=['ami-12345678'])
    failure = caught.value
    assert (failure.code, '[ami-12345678]' in failure.message) == ('InvalidAMIID.NotFound', True), failure
    assert str(failure) == f'DescribeImages: {failure.code}: {failure.message}'


def test_the_time_of_an_answer_is_by_the_clock_of_aws(settings: pytest.MonkeyPatch) -> None:
    moment = moment_of(Aws({'AWS_REGION': REGION}).call('sts', 'get_caller_identity'))
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
