"""The decision which AMIs, template versions and snapshots stay, over made-up accounts."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from hypothesis import given, strategies as st

from release.amis import Ami
from release.references import Reference
from release.retention import Account, chosen, decide, Item, Orphan, Version, Window
from release.uses import Use

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
IDS = [f'ami-{number:017}' for number in range(9)]
TEMPLATES = ('lt-1', 'lt-2')
WINDOWS = st.builds(Window, st.integers(1, 3), st.integers(0, 20).map(lambda days: timedelta(days=days)))
DAYS = st.integers(0, 40).map(lambda days: NOW - timedelta(days=days))
A_FEW = st.lists(st.sampled_from(IDS), max_size=2)


def ami(name: str, days: float = 90, stage: str = 'app', snapshots: tuple[str, ...] = (), **tags: str) -> Ami:
    """Return a released AMI of an age."""
    return Ami(name, f'visitors-{name}', 'available', NOW - timedelta(days=days), 'v2.0',
               snapshots or (f'snap-{name}',), {'Project': 'visitors', 'Stage': stage, 'Released': 'true', **tags})


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Make an account with AMIs of both stages, templates that name some of them, and users of each kind."""
    amis = [replace(ami(name, stage=draw(st.sampled_from(['app', 'app', 'base'])),
                        Released=draw(st.sampled_from(['true', 'true', 'false'])),
                        Keep=draw(st.sampled_from(['false', 'false', 'false', 'yes']))),
                    created=draw(DAYS), imds=draw(st.sampled_from(['v2.0', 'v2.0', 'v2.0', ''])),
                    snapshots=(f'snap-{draw(st.integers(0, 12))}',))
            for name in draw(st.lists(st.sampled_from(IDS), unique=True))]
    versions = []
    for template in TEMPLATES:
        count = draw(st.integers(0, 5))
        default = draw(st.integers(1, max(count, 1)))
        versions += [Version(template, f'name-of-{template}', number, draw(DAYS), frozenset(draw(A_FEW)),
                             'latest' if number == count else 'default' if number == default else '',
                             draw(st.integers(0, 5)) > 0) for number in range(1, count + 1)]
    orphans = [Orphan(f'snap-{number}', 'ami-gone', draw(DAYS), {'Keep': draw(st.sampled_from(['false', 'true']))})
               for number in draw(st.lists(st.integers(10, 15), unique=True))]
    uses = [Use('the instance i', name, runs=True) for name in draw(A_FEW)]
    uses += [Use('the fleet f', '', doubt='unclear')] * draw(st.sampled_from([0, 0, 0, 0, 1]))
    references = [Reference(name, kind, arn) for name in draw(A_FEW) for kind, arn in [draw(st.sampled_from([
        ('ec2:Instance', 'arn:aws:ec2:r:1:instance/i-1'),
        ('ec2:LaunchTemplate', 'arn:aws:ec2:r:1:launch-template/lt-1'),
        ('ec2:LaunchTemplate', 'arn:aws:ec2:r:1:launch-template/lt-of-others')]))]]
    users = {version.id: ['a refresh'] for version in versions if draw(st.integers(0, 5)) == 0}
    shared = {f'snap-{draw(st.integers(0, 15))}': 'ami-of-others'} if draw(st.booleans()) else {}
    return Account(NOW, amis, versions, orphans, uses, references, users, shared,
                   frozenset(draw(A_FEW)) - {each.id for each in amis})


def kept(account: Account, window: Window) -> set[str]:
    return {item.id for item in decide(account, window) if item.stays}


def without(account: Account, removed: list[Item]) -> Account:
    """Return the account after a removal, which takes the snapshots of an AMI with it if no other AMI has them."""
    gone = {item.id for item in removed}
    staying = {name for each in account.amis if each.id not in gone for name in each.snapshots} | account.shared.keys()
    gone |= {name for each in account.amis if each.id in gone for name in each.snapshots} - staying
    return replace(account, amis=[each for each in account.amis if each.id not in gone],
                   versions=[each for each in account.versions if each.id not in gone],
                   orphans=[each for each in account.orphans if each.id not in gone])


@given(accounts(), WINDOWS)
def test_the_kept_set_is_closed_under_may_be_needed(account: Account, window: Window) -> None:
    stays = kept(account, window)
    amis = {each.id: each for each in account.amis}
    for version in account.versions:
        if version.id in stays:
            assert version.amis & amis.keys() <= stays, 'a version that stays can launch'
    for name in amis.keys() & stays:
        for template in TEMPLATES:
            naming = [each for each in account.versions if each.template == template and name in each.amis]
            assert not naming or any(each.id in stays for each in naming), 'an AMI that stays can be rolled'
        sharing = {other.id for other in account.amis if {*other.snapshots} & {*amis[name].snapshots}}
        assert sharing <= stays, 'the removal of another AMI deletes no snapshot of this one'


@given(accounts(), WINDOWS)
def test_all_that_is_used_protected_or_young_stays(account: Account, window: Window) -> None:
    stays = kept(account, window)
    for each in account.amis:
        if any(use.is_of(each.id) for use in account.uses) or each.tags['Keep'] == 'yes' or not each.is_committed:
            assert each.id in stays
        elsewhere = [reference for reference in account.references if reference.ami == each.id
                     if not any(version.template == reference.name and each.id in version.amis
                                for version in account.versions)]
        assert each.id in stays or not elsewhere, 'EC2 says that it is used'
    for item in decide(account, window):
        assert item.stays or NOW - item.created >= window.age
    for version in account.versions:
        must_stay = version.id in account.version_users or version.mark or not version.is_clear
        assert version.id in stays or not must_stay and not version.amis & account.foreign
    for orphan in account.orphans:
        mapped = {snapshot for each in account.amis for snapshot in each.snapshots} | account.shared.keys()
        assert orphan.id in stays or orphan.id not in mapped and orphan.tags['Keep'] == 'false'


@given(accounts(), WINDOWS)
def test_the_releases_before_each_ami_in_use_stay(account: Account, window: Window) -> None:
    stays = kept(account, window)
    releases = sorted((each for each in account.amis if each.stage == 'app' and each.is_released),
                      key=lambda each: (each.created, each.id))
    assert {each.id for each in releases[-window.count:]} <= stays
    for each in account.amis:
        if any(use.ami == each.id for use in account.uses):
            earlier = [other.id for other in releases if (other.created, other.id) < (each.created, each.id)]
            assert {*earlier[-window.count:]} <= stays


@given(accounts(), WINDOWS, st.integers(1, 6))
def test_a_call_removes_no_more_than_its_limit_and_makes_nothing_else_removable(account: Account, window: Window,
                                                                                limit: int) -> None:
    items = decide(account, window)
    removed = chosen(items, account.versions, limit)
    stays = {item.id for item in items if item.stays}
    assert len(removed) == min(limit, len(items) - len(stays)) and not {item.id for item in removed} & stays
    after = without(account, removed)
    left = {item.id for item in decide(after, window)}
    assert kept(after, window) == stays & left
    named = {name for version in after.versions for name in version.amis}
    gone = {item.id for item in removed if item.kind == 'AMI'}
    assert not named & gone, 'no version that is left names an AMI that was removed'


@given(accounts(), WINDOWS, st.sampled_from(IDS))
def test_a_further_user_never_makes_anything_removable(account: Account, window: Window, name: str) -> None:
    more = replace(account, uses=[*account.uses, Use('the group g', name)])
    assert kept(account, window) <= kept(more, window)


def test_bakes_that_were_never_rolled_do_not_push_the_way_back_out_of_the_window() -> None:
    amis = [ami(name, days=100 - number) for number, name in enumerate(IDS)]
    account = Account(NOW, amis, uses=[Use('the instance i', IDS[2], runs=True)])
    stays = kept(account, Window(2, timedelta(days=30)))
    assert stays == {*IDS[:3], *IDS[7:]}, 'two before the running one, the running one, and the two newest'


def test_each_reason_is_named() -> None:
    account = Account(NOW, [ami(IDS[0], Keep='true'), ami(IDS[1], days=3)],
                      uses=[Use('the instance i-1', IDS[0], runs=True)])
    window = Window(1, timedelta(days=30))
    reasons = {item.id: item.why for item in decide(account, window)}
    assert reasons == {IDS[0]: (f'the instance i-1 runs {IDS[0]}', 'the tag Keep=true'),
                       IDS[1]: ('younger than 30 days', 'one of the 1 newest')}
