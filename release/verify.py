"""The verification of an AMI: a copy boots, tests itself, and its console says whether the AMI may be released."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from release import amis, leftovers
from release.amis import Ami, PROJECT
from release.ec2 import console_of, NO_INSTANCE, state_of, UNKNOWN
from release.errors import AwsFailed, NotReady, NotVerified, TimedOut
from release.selftest_output import end_of, failure_of, lines_of, Verdict, verdict_of
from release.session import Session
from release.userdata import render
from release.waiting import Deadline

INSTANCE_TYPE = 't3.small'
PURPOSE = 'verify'
POLL_SECONDS = 3.0
# EC2 may not list an instance yet, although it has just started it.
UNLISTED_SECONDS = 60.0
# The last output of an instance reaches EC2's console with a delay.
AFTER_END_SECONDS = 30.0
ENDED = ('shutting-down', 'terminated', 'stopping', 'stopped')
ENVIRONMENT = {'SELFTEST': '1', 'LIFECYCLE_HOOK': ''}


@dataclass(frozen=True)
class Verified:
    """An AMI that passed its self-test. --json prints it by these names."""

    ami: str
    version: str
    verified_at: str


def verify(session: Session, ami_id: str, deadline: Deadline, subnet: str = '') -> Verified:
    """Release an AMI if its copy passes the self-test; raise NotVerified, with each failed check, if it does not.

    Only a failed check takes the release from a released AMI. Without a verdict only the tag `Verified` changes.
    """
    ami = amis.get(session.aws, ami_id)
    if ami.state != 'available':
        raise NotReady(f'{ami_id} is {ami.state}; only an available AMI can boot')
    if not ami.version:
        raise NotReady(f'{ami_id} has no tag Version, so the expected version is unknown; is it an AMI of the '
                       'application?')
    user_data = render(session.root, {**ENVIRONMENT, 'AWS_REGION': session.aws.region, 'DEPLOY_ID': session.run_id})
    try:
        with _copy(session, ami, user_data, subnet) as instance, session.progress.phase('verify: self-test'):
            verdict = _follow(session, instance, deadline)
    except (NotVerified, TimedOut) as error:
        # Without a verdict the AMI stays released, or not, as it was.
        _mark(session, ami_id, None, f'no verdict: {error}')
        raise
    objections = verdict.objections(ami.version)
    if objections:
        _mark(session, ami_id, False, f'failed {"; ".join(objections)}')
        lines = '\n'.join(f'  {objection}' for objection in objections)
        raise NotVerified(f'{ami_id} is not released, because it failed its self-test:\n{lines}')
    return Verified(ami_id, verdict.version, _mark(session, ami_id, True, f'passed {verdict.version}'))


def _mark(session: Session, ami_id: str, released: bool | None, outcome: str) -> str:
    """Tag the AMI with the outcome, and return the time; None leaves the tag Released as it is."""
    now = f'{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}'
    verdict = {} if released is None else {'Released': str(released).lower()}
    amis.tag(session.aws, ami_id, **verdict, VerifiedAt=now, Verified=outcome.splitlines()[0])
    return now


@contextmanager
def _copy(session: Session, ami: Ami, user_data: str, subnet: str) -> Iterator[str]:
    """Yield the id of a running copy of an AMI, which is terminated however the block ends."""
    instance = ''
    session.interruption.check()
    try:
        with session.progress.phase('verify: start a copy'):
            instance = _start(session, ami, user_data, subnet)
        yield instance
    finally:
        with session.progress.phase('verify: terminate it'):
            _terminate(session, instance)


def _start(session: Session, ami: Ami, user_data: str, subnet: str) -> str:
    tags = [{'Key': key, 'Value': value} for key, value in {
        'Project': PROJECT, 'Name': f'{PROJECT}-{PURPOSE}', 'Purpose': PURPOSE, leftovers.TAG: session.run_id,
        'Image': ami.id, 'CreatedBy': session.caller[:amis.TAG_LENGTH]}.items()]
    parameters: dict[str, Any] = {'SubnetId': subnet} if subnet else {}
    answer = session.aws.call(
        'ec2', 'run_instances', ImageId=ami.id, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1,
        UserData=user_data, InstanceInitiatedShutdownBehavior='terminate',
        MetadataOptions={'HttpTokens': 'required', 'HttpPutResponseHopLimit': 1},
        TagSpecifications=[{'ResourceType': kind, 'Tags': tags} for kind in ('instance', 'volume')],
        # A call without an answer is retried, and the token keeps that from starting a second instance.
        ClientToken=session.run_id, **parameters)
    return str(answer['Instances'][0]['InstanceId'])


def _terminate(session: Session, instance: str) -> None:
    cleanup = leftovers.remove(session.aws, session.run_id)
    if cleanup.left:
        session.left.extend(cleanup.left)
        session.progress.note(f'left behind, and costing money: {"; ".join(cleanup.left)}')
    elif instance:
        session.progress.step(f'{instance} is terminated')


def _follow(session: Session, instance: str, deadline: Deadline) -> Verdict:
    watch = _Watch(session, instance, deadline)
    try:
        return deadline.until(watch.look, f'the verdict of the self-test on {instance}', POLL_SECONDS)
    except TimedOut as error:
        raise TimedOut(f'{error}; the end of its console:\n{end_of(watch.console)}') from None


class _Watch:
    """The console and the state of one instance, watched until a deadline."""

    def __init__(self, session: Session, instance: str, deadline: Deadline) -> None:
        """Start the time within which EC2 must list the instance."""
        self._aws = session.aws.once
        self._progress = session.progress
        self._instance = instance
        self._listed_by = deadline.within(UNLISTED_SECONDS)
        self._silence: Deadline | None = None
        self._deadline = deadline
        self.console = ''

    def look(self) -> Verdict | None:
        """Return the verdict, or None before there is one; raise NotVerified if the instance ended without one."""
        self.console = self._read() or self.console
        verdict = verdict_of(self.console)
        if verdict:
            return verdict

        self._progress.step((lines_of(self.console) or ['waiting for its console'])[-1])
        state = state_of(self._aws, self._instance)
        if state in ENDED or state == UNKNOWN and not self._listed_by.left:
            self._wait_for_last_output()
        return None

    def _wait_for_last_output(self) -> None:
        self._silence = self._silence or self._deadline.within(AFTER_END_SECONDS)
        if not self._silence.left:
            reason = failure_of(self.console)
            outcome = f'the copy {reason}' if reason else 'the copy ended without a verdict of its self-test'
            raise NotVerified(f'{outcome}; the end of its console:\n{end_of(self.console)}')

    def _read(self) -> str:
        try:
            return console_of(self._aws, self._instance)
        except AwsFailed as error:
            if error.code == NO_INSTANCE and self._listed_by.left:
                return ''
            raise
