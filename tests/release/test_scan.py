"""The gate of `bake --scan`: grype's exit code decides, and a scan that cannot run releases nothing."""

from collections.abc import Mapping
import os
from pathlib import Path
import stat

import pytest

from release.artefacts import BILL
from release.errors import Interrupted, NotVerified, TimedOut, ToolFailed
from release.scan import scan
from release.waiting import Deadline
from tests.support.account import Account
from tests.support.checkout import Checkout, processes_with

TABLE = 'openssl  1.0  2.0  deb  CVE-2026-1  High'
# The end of grype 0.92 and newer: 2 for a vulnerability at or above the severity, 1 for any other failure.
VULNERABLE = f"echo '{TABLE}'; echo 'ERROR discovered vulnerabilities' >&2; exit 2"
NO_DATABASE = 'echo "failed to load vulnerability db: no such host" >&2; exit 1'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a bill of materials, and nothing else."""
    (tmp_path / 'bill').mkdir()
    (tmp_path / 'bill' / BILL).write_text('{}', encoding='utf-8')
    return tmp_path / 'bill'


def with_grype(folder: Path, script: str) -> Mapping[str, str]:
    """Return an environment with a grype that runs a script."""
    program = folder / 'programs' / 'grype'
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {'PATH': f'{program.parent}{os.pathsep}{os.environ["PATH"]}'}


def test_grype_scans_the_bill_of_materials_for_fixed_vulnerabilities(tmp_path: Path, folder: Path) -> None:
    report = scan(folder, 'high', with_grype(tmp_path, 'echo "$@"'), Deadline(60))
    assert report == f'sbom:{folder}/{BILL} --only-fixed --fail-on high'


def test_a_vulnerability_of_the_severity_stops_the_release_and_is_shown(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(NotVerified, match=f'vulnerabilities that are high or worse and have a fix:\n{TABLE}'):
        scan(folder, 'high', with_grype(tmp_path, VULNERABLE), Deadline(60))


def test_a_scan_that_fails_releases_nothing_and_names_the_reason(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ToolFailed, match='grype ended with 1: failed to load vulnerability db: no such host'):
        scan(folder, 'high', with_grype(tmp_path, NO_DATABASE), Deadline(60))


def test_a_missing_grype_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='grype is not installed; install it, or bake without --scan'):
        scan(folder, 'high', {'PATH': str(tmp_path)}, Deadline(60))


def test_without_a_bill_of_materials_there_is_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='nothing to scan: the bake left no bill of materials'):
        scan(tmp_path, 'high', {}, Deadline(60))


def test_a_scan_polls_so_that_leases_are_renewed_and_a_signal_ends_grype(tmp_path: Path, folder: Path) -> None:
    polls = iter(range(3))

    def poll() -> None:
        if next(polls, None) is None:
            raise Interrupted(15)

    environ = with_grype(tmp_path, 'exec sleep 600')
    with pytest.raises(Interrupted):
        scan(folder, 'high', environ, Deadline(60, poll))
    assert next(polls, None) is None
    assert not processes_with('sleep 600')


def test_a_scan_ends_with_the_time_of_the_bake(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(TimedOut, match='timed out after 1 s waiting for grype'):
        scan(folder, 'high', with_grype(tmp_path, 'exec sleep 601'), Deadline(1))
    assert not processes_with('sleep 601')


@pytest.mark.packer
def test_an_ami_is_released_only_after_a_scan_without_findings(account: Account, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, account)
    for script, code in ((NO_DATABASE, 5), (VULNERABLE, 6)):
        result = checkout.bake('--scan=high', **with_grype(tmp_path, script))
        assert result.code == code, result
        (ami,) = account.images(Stage='app')
        assert {tag['Key']: tag['Value'] for tag in ami['Tags']}['Released'] == 'false'

    result = checkout.bake('--scan=high', **with_grype(tmp_path, 'echo "No vulnerabilities found"'))
    assert (result.code, result.out) == (0, ami['ImageId']), result
    assert (checkout.report['baked'], checkout.report['scanned']) == ([], 'No vulnerabilities found')


@pytest.mark.packer
def test_a_released_ami_with_findings_stays_released(account: Account, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, account)
    released = checkout.bake()
    assert checkout.bake('--scan=high', **with_grype(tmp_path, VULNERABLE)).code == 6
    assert checkout.bake().out == released.out
