"""The optional gate: what it lets through, what it stops, and that it says when it cannot tell."""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import stat

import pytest

from release import __main__ as command
from release.errors import NotVerified, ToolFailed
from release.scan import gate, judged, SEVERITIES


def found(severity: str, state: str = 'fixed') -> dict[str, object]:
    """Return a match as grype tells it."""
    return {'vulnerability': {'id': 'CVE-2026-1', 'severity': severity, 'fix': {'state': state, 'versions': ['2.0']}},
            'artifact': {'name': 'openssl', 'version': '1.0'}}


def test_a_severe_vulnerability_with_a_fix_is_told_by_name() -> None:
    with pytest.raises(NotVerified, match=r'CVE-2026-1 \(High\) in openssl 1.0, fixed in 2.0'):
        judged([found('Low'), found('High')], 'high')


@pytest.mark.parametrize('match', [found('Medium'), found('Critical', 'not-fixed'), found('Unknown')])
def test_what_is_less_severe_or_has_no_fix_passes(match: dict[str, object]) -> None:
    assert judged([match], 'high').startswith('scanned: ')


@pytest.mark.parametrize('severity', SEVERITIES)
def test_worse_than_asked_is_stopped_as_well(severity: str) -> None:
    with pytest.raises(NotVerified):
        judged([found('Critical')], severity)


def test_the_command_line_knows_the_same_severities() -> None:
    assert command.SEVERITIES == SEVERITIES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with an SBOM, and nothing else."""
    (tmp_path / 'sbom').mkdir()
    (tmp_path / 'sbom' / 'sbom.cdx.json').write_text('{}', encoding='utf-8')
    return tmp_path / 'sbom'


def with_grype(tmp_path: Path, script: str) -> Mapping[str, str]:
    """Return an environment with a grype that does what a script says."""
    program = tmp_path / 'programs' / 'grype'
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {'PATH': f'{program.parent}{os.pathsep}{os.environ["PATH"]}'}


def test_a_database_that_cannot_be_reached_is_told_and_stops_nothing(tmp_path: Path, folder: Path) -> None:
    environ = with_grype(tmp_path, 'echo "WARN no" >&2; echo "ERROR unable to update: no such host" >&2; exit 1')
    assert gate(folder, 'high', environ) == (
        'not scanned, the database of vulnerabilities cannot be updated: ERROR unable to update: no such host')


def test_what_grype_finds_in_the_sbom_decides(tmp_path: Path, folder: Path) -> None:
    told = json.dumps({'matches': [found('High')]})
    environ = with_grype(tmp_path, f"case $1 in db) ;; sbom:*/sbom.cdx.json) echo '{told}';; *) exit 9;; esac")
    with pytest.raises(NotVerified, match='1 vulnerabilities are high or worse, and have a fix'):
        gate(folder, 'high', environ)
    assert gate(folder, 'critical', environ) == 'scanned: 1 high'


def test_a_grype_that_fails_is_told(tmp_path: Path, folder: Path) -> None:
    environ = with_grype(tmp_path, 'case $1 in db) ;; *) echo broken >&2; exit 3;; esac')
    with pytest.raises(ToolFailed, match='grype ended with 3: broken'):
        gate(folder, 'high', environ)


def test_a_missing_grype_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='grype is not installed; install it, or bake without --scan'):
        gate(folder, 'high', {'PATH': str(tmp_path)})


def test_without_an_sbom_there_is_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='no SBOM'):
        gate(tmp_path, 'high', {})
