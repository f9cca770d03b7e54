"""The roll of a release to the instances of a group, and the way back: started, adopted, followed, judged, recorded.

AWS replaces the instances; a call that dies leaves the refresh as it is, and the next call adopts it.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
import time

from release import amis, group, page, preflight, rolls
from release.artefacts import Store
from release.ec2 import console_of
from release.errors import AwsFailed, Exit, Interrupted, NotReady, ReleaseError, RollRefused
from release.group import BOOTING, Group, Refresh, SERVING, Version
from release.preflight import Check, Pace
from release.selftest_output import end_of, failure_of
from release.session import Session

POLL_SECONDS = 5.0
SERVED_SECONDS = 120.0
RUNNING = 'InstanceRefreshInProgress'
SUCCESSFUL, ROLLED_BACK, ROLLING_BACK = 'Successful', 'RollbackSuccessful', 'RollbackInProgress'
CODES = {SUCCESSFUL: Exit.DONE, ROLLED_BACK: Exit.ROLLED_BACK}
UNDONE = {ROLLED_BACK: Exit.DONE}


@dataclass(frozen=True)
class Request:
    """The release to roll and the way to do it."""

    group: str
    which: str
    url: str
    alarms: tuple[str, ...]
    pace: Pace
    only_plan: bool = False


@dataclass
class Outcome:
    """The outcome of a roll. --json prints it by these names."""

    group: str
    refresh: str = ''
    before: str = ''
    after: str = ''
    result: str = 'not started'
    reason: str = ''
    exit_code: int = Exit.DONE
    seconds: float = 0.0
    two_releases_seconds: float = 0.0
    adopted: bool = False
    checks: list[str] = field(default_factory=list)
    # For each instance that ended before it served: its last phase, or the end of its console.
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return lines for people."""
        lines = [f'{self.group}: {self.result}: from {self.before} to {self.after}, {self.seconds:.0f} s, of which '
                 f'{self.two_releases_seconds / 60:.1f} min with two releases in service']
        lines += [f'reason: {self.reason}'] if self.reason else []
        return '\n'.join([*lines, *(f'{instance}: {cause}' for instance, cause in self.failures.items())])


class Roll:
    """One call of `roll` or `rollback`."""

    def __init__(self, session: Session, store: Store, request: Request) -> None:
        """Prepare the roll without starting it."""
        self._session = session
        self._store = store
        self._request = request
        self._seen: dict[str, str] = {}
        self._served: set[str] = set()
        self._is_canary_judged = False
        self._looked = time.monotonic()
        self.outcome = Outcome(request.group)

    def forward(self) -> Outcome:
        """Roll to the requested version, or adopt the refresh that is taking the group there."""
        found = group.read(self._session.aws, self._request.group)
        target = preflight.choose(self._versions(found), self._request.which)
        return self._to(found, target)

    def back(self) -> Outcome:
        """Roll the running refresh back, or else refresh the group to an earlier version."""
        found = group.read(self._session.aws, self._request.group)
        if found.active:
            self._begin(found, found.active.target, found.active.id)
            return self._recorded(found.active.id, found.active.target, undo=True)
        versions = self._versions(found)
        which = self._request.which
        return self._to(found, preflight.choose(versions, which) if which else preflight.before(found, versions))

    def _versions(self, found: Group) -> list[Version]:
        return group.versions(self._session.aws, found.version.template)

    def _to(self, found: Group, target: Version | None) -> Outcome:
        if target is None:
            wanted = self._request.which or 'an earlier release'
            raise RollRefused(f'no version of the launch template of {found.name} has {wanted}; apply the stack with '
                              'its AMI first')
        if found.active and found.active.target == target and found.active.status != ROLLING_BACK:
            self._begin(found, target, found.active.id)
            self.outcome.adopted = True
            self._session.progress.note(f'adopting the refresh {found.active.id} to {target}')
            return self._recorded(found.active.id, target)
        self._begin(found, target, '')
        self._refuse(self._checks(found, target))
        if all(each.version == target for each in found.instances) and found.version == target:
            self.outcome.result = 'nothing to do'
            return self.outcome
        preferences = preflight.preferences(found, self._request.pace, self._request.alarms)
        self._session.progress.note(f'plan: from {found.version} to {target}: {preferences}')
        if self._request.only_plan:
            self.outcome.result = 'planned'
            return self.outcome
        self._session.interruption.check()
        return self._recorded(self._start(target, preferences), target)

    def _begin(self, found: Group, target: Version, refresh: str) -> None:
        self.outcome.before, self.outcome.after = str(found.version), str(target)
        self.outcome.refresh = refresh

    def _checks(self, found: Group, target: Version) -> list[Check]:
        aws = self._session.aws
        with self._session.progress.phase('check before the roll'):
            ami = amis.registered(aws, target.ami) if target.ami else None
            answers = [page.ask(self._request.url, path) for path in page.PATHS]
            return preflight.checks(found, target, ami, found.alarms, self._request.alarms, answers)

    def _refuse(self, checks: list[Check]) -> None:
        self.outcome.checks = [str(check) for check in checks]
        self._session.progress.note('\n'.join(self.outcome.checks))
        failed = [f'{check.name} ({check.objection})' for check in checks if check.objection]
        if failed:
            raise RollRefused(f'nothing was started, because of {"; ".join(failed)}')

    def _start(self, target: Version, preferences: dict[str, object]) -> str:
        try:
            answer = self._session.aws.call(
                'autoscaling', 'start_instance_refresh', AutoScalingGroupName=self._request.group,
                DesiredConfiguration={'LaunchTemplate': {'LaunchTemplateId': target.template,
                                                         'Version': target.number}}, Preferences=preferences)
        except AwsFailed as error:
            if error.code != RUNNING:
                raise
            # Of two rolls at once one starts; a retried call also finds the refresh that its lost answer started.
            running = group.read(self._session.aws, self._request.group).active
            if not running or running.target != target:
                raise RollRefused(f'another refresh began meanwhile: {running.id if running else error}') from None
            self.outcome.adopted = True
            return running.id
        return str(answer['InstanceRefreshId'])

    def _recorded(self, refresh: str, target: Version, undo: bool = False) -> Outcome:
        """Follow a refresh to its end, and store the record however that ends."""
        self.outcome.refresh = refresh
        started, began = datetime.now(timezone.utc), time.monotonic()
        self.outcome.result = 'no longer followed'
        try:
            with self._session.progress.phase('roll back' if undo else 'roll'):
                if undo:
                    self._roll_back('a person asked for it')
                self._session.deadline.until(lambda: self._look(refresh, target, undo),
                                             f'the end of the refresh {refresh}', POLL_SECONDS)
            if self.outcome.result == SUCCESSFUL:
                self._require_served(target)
        except (ReleaseError, Interrupted) as error:
            self.outcome.exit_code, self.outcome.reason = int(error.exit_code), str(error)
            where = f'--group {self._request.group} --url {self._request.url}'
            self._session.progress.note(f'the refresh {refresh} goes on at AWS\n'
                                        f'adopt it: bin/release roll {target.ami} {where}\n'
                                        f'undo it:  bin/release rollback {where}')
            raise
        finally:
            self.outcome.seconds = time.monotonic() - began
            self._keep(started)
        return self.outcome

    def _look(self, refresh: str, target: Version, undo: bool) -> bool | None:
        """Look at the group once; return True at the end of the refresh."""
        found = group.read(self._session.aws.once, self._request.group)
        mine = next((each for each in found.refreshes if each.id == refresh), None)
        if mine is None:
            raise NotReady(f'{found.name} has no refresh {refresh} any longer')
        self._observe(found, target)
        self._session.progress.step(self._shown(found, mine, target))
        if not mine.is_active:
            self._end(mine, undo)
            return True
        if mine.status == 'InProgress' and not undo and not self._is_canary_judged:
            self._judge(found, target)
        return None

    def _observe(self, found: Group, target: Version) -> None:
        now = {each.id: each for each in found.instances if each.version == target}
        for instance, each in now.items():
            self._seen[instance] = each.phase or self._seen.get(instance, '')
            if each.state == SERVING:
                self._served.add(instance)
        for instance in [name for name in self._seen if name not in now or now[name].state not in (BOOTING, SERVING)]:
            if instance not in self._served and instance not in self.outcome.failures:
                self.outcome.failures[instance] = self._cause(instance)
        serving = {each.version for each in found.instances if each.state == SERVING}
        moment = time.monotonic()
        if target in serving and len(serving) > 1:
            self.outcome.two_releases_seconds += moment - self._looked
        self._looked = moment

    def _cause(self, instance: str) -> str:
        try:
            console = console_of(self._session.aws.once, instance)
        except ReleaseError:
            console = ''
        return f'{failure_of(console) or self._seen[instance] or "ended before it served"}\n{end_of(console)}'

    def _shown(self, found: Group, mine: Refresh, target: Version) -> str:
        new = Counter(each.state for each in found.instances if each.version == target)
        old = sum(each.version != target for each in found.instances)
        booting = [each.phase for each in found.instances if each.phase]
        states = ', '.join(f'{count} {state}' for state, count in sorted(new.items())) or 'none'
        return f'{mine.status} {mine.percentage} %: {old} old, new: {states}{f" ({booting[0]})" if booting else ""}'

    def _judge(self, found: Group, target: Version) -> None:
        """Ask the page when the first new instance serves; abort if it fails, and never promote."""
        if not any(each.version == target and each.state == SERVING for each in found.instances):
            return
        answers = page.sample(self._request.url)
        new = sum(answer.version == target.release for answer in answers)
        self._is_canary_judged = new >= page.LEAST_ANSWERS
        objection = page.objection(answers)
        if objection:
            self._roll_back(objection)

    def _roll_back(self, reason: str) -> None:
        self.outcome.reason = reason
        self._session.progress.note(f'rolling back: {reason}')
        active = group.read(self._session.aws, self._request.group).active
        if active and active.status != ROLLING_BACK:
            self._session.aws.call('autoscaling', 'rollback_instance_refresh',
                                   AutoScalingGroupName=self._request.group)

    def _end(self, refresh: Refresh, undo: bool) -> None:
        self.outcome.result = refresh.status
        self.outcome.exit_code = int((UNDONE if undo else CODES).get(refresh.status, Exit.NOT_ROLLED_BACK))
        self.outcome.reason = '; '.join(filter(None, (self.outcome.reason, refresh.reason)))

    def _require_served(self, target: Version) -> None:
        deadline = self._session.deadline.within(SERVED_SECONDS)
        try:
            deadline.until(lambda: page.ask(self._request.url, '/version').version == target.release or None,
                           f'{target.release} at {self._request.url}/version', 2.0)
        except ReleaseError as error:
            self.outcome.exit_code, self.outcome.reason = int(Exit.NOT_SERVED), str(error)

    def _keep(self, started: datetime) -> None:
        it = self.outcome
        place = rolls.keep(self._store, rolls.Roll(
            self._session.run_id, it.group, self._session.caller, it.refresh, it.before, it.after,
            f'{started:%Y-%m-%dT%H:%M:%SZ}', round(it.seconds, 1), it.result, int(it.exit_code), it.reason,
            {'two releases': it.two_releases_seconds}))
        self._session.progress.note(f'record: {place}')
