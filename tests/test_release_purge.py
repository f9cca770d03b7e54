"""A broken image goes with all that belongs to it, unless something runs it or would start it."""

from pathlib import Path

import pytest

from tests.account import Account
from tests.checkout import Checkout

pytestmark = pytest.mark.packer


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout, and an account that has images of both its stages."""
    made = Checkout(tmp_path, account)
    baked = made.bake()
    assert baked.code == 0, baked
    return made


def test_an_image_goes_by_its_id_and_is_baked_anew(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    done = checkout.release('purge', ami)
    assert (done.code, f'removed {ami}, app 1.0.2+build.41' in done.out) == (0, True), done
    assert not account.images(Stage='app')
    assert not account.leftovers()
    assert not (checkout.root / 'build' / 'artefacts' / ami).exists()
    again = checkout.bake()
    assert (again.code, checkout.report['baked']) == (0, ['app']), again


def test_images_go_by_their_key(checkout: Checkout, account: Account) -> None:
    keys = checkout.report['keys']
    assert checkout.release('purge', keys['base']).code == 0
    assert not account.images(Stage='base')
    assert account.images(Stage='app')


def test_an_image_that_runs_stays(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    group = account.run_in_a_group(ami)
    done = checkout.release('purge', ami)
    assert done.code == 3, done
    assert f'runs {ami}' in done.err
    assert f'the Auto Scaling group {group} starts {ami}' in done.err
    assert account.images(Stage='app')


def test_what_is_not_there_or_not_ours_is_refused(checkout: Checkout, account: Account) -> None:
    for which, says in (('0000000000000000', 'no image in the region us-east-1 has the key 0000000000000000'),
                        ('ami-0123456789abcdef0', 'has no such image'),
                        ('ami-0debian13newest', 'is no image of this project')):
        done = checkout.release('purge', which)
        assert (done.code, says in done.err) == (3, True), done
    assert len(account.images()) == 2
