"""A copy of an image is booted, tests itself, and says on its console whether the image may run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from release import images, leftovers
from release.aws import Aws
from release.console import end_of, failure_of, lines_of, Verdict, verdict_of
from release.errors import AwsFailed, NotReady, NotVerified, TimedOut
from release.images import Image, PROJECT
from release.run import Run
from release.userdata import render
from release.waiting import Deadline, never

INSTANCE_TYPE = 't3.small'
PURPOSE = 'verify'
POLL_SECONDS = 3.0
# EC2 may not know an instance yet, although it has just said that it runs.
UNKNOWN_SECONDS = 60.0
# What a machine has written last reaches the console with a delay.
AFTER_END_SECONDS = 30.0
ENDED = ('shutting-down', 'terminated', 'stopping', 'stopped')
ENVIRONMENT = {'SELFTEST': '1', 'LIFECYCLE_HOOK': ''}


@dataclass(frozen=True)
class Verified:
    """The outcome of a self-test that an image has passed."""

    ami: str
    version: str
    verified_at: str


def verify(run: Run, ami: str, deadline: Deadline, subnet: str = '',
           meanwhile: Callable[[], None] = never) -> Verified:
    """Return when an image is released; raise NotVerified, with each check that has failed, when it must not be.

    Only a failed check takes the release from an image that had it. Where no verdict came, only `Verified` says so.
    """
    image = images.get(run.aws, ami)
    if image.state != 'available':
        raise NotReady(f'{ami} is {image.state}; only an available image can be booted')
    if not image.version:
        raise NotReady(f'{ami} has no tag Version, so nobody could tell whether it runs the right one; is it an '
                       'image of the application?')
    user_data = render(run.root, {**ENVIRONMENT, 'AWS_REGION': run.aws.region, 'DEPLOY_ID': run.run_id})
    try:
        with _copy(run, image, user_data, subnet) as instance, run.progress.phase('verify: self-test'):
            verdict = _follow(run, instance, deadline, meanwhile)
    except (NotVerified, TimedOut) as error:
        # No answer is no verdict: what an image was before, it stays.
        _mark(run, ami, None, f'no verdict: {error}')
        raise
    objections = verdict.objections(image.version)
    if objections:
        _mark(run, ami, False, f'failed {"; ".join(objections)}')
        lines = '\n'.join(f'  {objection}' for objection in objections)
        raise NotVerified(f'{ami} is not released, its self-test has failed:\n{lines}')
    return Verified(ami, verdict.version, _mark(run, ami, True, f'passed {verdict.version}'))


def _mark(run: Run, ami: str, released: bool | None, told: str) -> str:
    """Write the outcome onto the image, and return the moment; None leaves it released or not, as it was."""
    now = f'{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}'
    verdict = {} if released is None else {'Released': str(released).lower()}
    images.tag(run.aws, ami, **verdict, VerifiedAt=now, Verified=told.splitlines()[0])
    return now


@contextmanager
def _copy(run: Run, image: Image, user_data: str, subnet: str) -> Iterator[str]:
    """Give the id of a running copy of an image, which is terminated however the block ends."""
    instance = ''
    run.interruption.check()
    try:
        with run.progress.phase('verify: start a copy'):
            instance = _start(run, image, user_data, subnet)
        yield instance
    finally:
        with run.progress.phase('verify: terminate it'):
            _terminate(run, instance)


def _start(run: Run, image: Image, user_data: str, subnet: str) -> str:
    tags = [{'Key': key, 'Value': value} for key, value in {
        'Project': PROJECT, 'Name': f'{PROJECT}-{PURPOSE}', 'Purpose': PURPOSE, leftovers.TAG: run.run_id,
        'Image': image.ami, 'CreatedBy': run.who[:images.TAG_LENGTH]}.items()]
    parameters: dict[str, Any] = {'SubnetId': subnet} if subnet else {}
    answer = run.aws.call(
        'ec2', 'run_instances', ImageId=image.ami, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1,
        UserData=user_data, InstanceInitiatedShutdownBehavior='terminate',
        MetadataOptions={'HttpTokens': 'required', 'HttpPutResponseHopLimit': 1},
        TagSpecifications=[{'ResourceType': kind, 'Tags': tags} for kind in ('instance', 'volume')],
        # The call is tried again where no answer comes, and must not start a second machine then.
        ClientToken=run.run_id, **parameters)
    return str(answer['Instances'][0]['InstanceId'])


def _terminate(run: Run, instance: str) -> None:
    removal = leftovers.remove(run.aws, run.run_id)
    if removal.left:
        run.left.extend(removal.left)
        run.progress.note(f'left behind, and costing money: {"; ".join(removal.left)}')
    elif instance:
        run.progress.step(f'{instance} is terminated')


def _follow(run: Run, instance: str, deadline: Deadline, meanwhile: Callable[[], None]) -> Verdict:
    watch = _Watch(run, instance, deadline)
    try:
        return deadline.until(watch.look, f'an answer of the self-test on {instance}', POLL_SECONDS, meanwhile)
    except TimedOut as error:
        raise TimedOut(f'{error}; the end of its console:\n{end_of(watch.console)}') from None


class _Watch:
    def __init__(self, run: Run, instance: str, deadline: Deadline) -> None:
        """Watch the console and the state of one instance; the deadline is its patience."""
        self._aws = run.aws.once
        self._progress = run.progress
        self._instance = instance
        self._known_by = deadline.within(UNKNOWN_SECONDS)
        self._silence: Deadline | None = None
        self._deadline = deadline
        self.console = ''

    def look(self) -> Verdict | None:
        """Return the verdict, if there is one; raise NotVerified when none will come any more."""
        self.console = self._read() or self.console
        verdict = verdict_of(self.console)
        if verdict:
            return verdict

        self._progress.step((lines_of(self.console) or ['waiting for its console'])[-1])
        state = leftovers.state_of(self._aws, self._instance)
        if state in ENDED or state == leftovers.UNKNOWN and not self._known_by.left:
            self._wait_for_the_end()
        return None

    def _wait_for_the_end(self) -> None:
        self._silence = self._silence or self._deadline.within(AFTER_END_SECONDS)
        if not self._silence.left:
            reason = failure_of(self.console)
            what = f'the copy {reason}' if reason else 'the copy has ended without a word of its self-test'
            raise NotVerified(f'{what}; the end of its console:\n{end_of(self.console)}')

    def _read(self) -> str:
        try:
            return console(self._aws, self._instance)
        except AwsFailed as error:
            if error.reason == 'InvalidInstanceID.NotFound' and self._known_by.left:
                return ''
            raise


def console(aws: Aws, instance: str) -> str:
    """Return what a machine has written on its console; the newest of it where its type can tell."""
    try:
        answer = aws.call('ec2', 'get_console_output', InstanceId=instance, Latest=True)
    except AwsFailed as error:
        if error.reason != 'UnsupportedOperation':
            raise
        answer = aws.call('ec2', 'get_console_output', InstanceId=instance)
    return str(answer.get('Output', ''))
