"""The gate of `bake --scan`: grype's exit code decides, and a scan that cannot run releases nothing."""

from collections.abc import Mapping
import os
from pathlib import Path
import stat

import pytest

from release.errors import NotVerified, ToolFailed
from release.scan import scan

# grype 0.91.1 and newer: 0, 2 for a vulnerability at or above the severity, 1 for any other failure.
TABLE = 'openssl  1.0  2.0  deb  CVE-2026-1  High'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a bill of materials, and nothing else."""
    (tmp_path / 'sbom').mkdir()
    (tmp_path / 'sbom' / 'sbom.cdx.json').write_text('{}', encoding='utf-8')
    return tmp_path / 'sbom'


def with_grype(tmp_path: Path, script: str) -> Mapping[str, str]:
    """Return an environment with a grype that runs a script."""
    program = tmp_path / 'programs' / 'grype'
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {'PATH': f'{program.parent}{os.pathsep}{os.environ["PATH"]}'}


def test_grype_scans_the_bill_of_materials_for_fixed_vulnerabilities(tmp_path: Path, folder: Path) -> None:
    report = scan(folder, 'high', with_grype(tmp_path, 'echo "$@"'))
    assert report == f'sbom:{folder}/sbom.cdx.json --only-fixed --fail-on high'


def test_a_vulnerability_of_the_severity_stops_the_release_and_is_shown(tmp_path: Path, folder: Path) -> None:
    environ = with_grype(tmp_path, f"echo '{TABLE}'; echo 'ERROR discovered vulnerabilities' >&2; exit 2")
    with pytest.raises(NotVerified, match=f'vulnerabilities that are high or worse and have a fix:\n{TABLE}'):
        scan(folder, 'high', environ)


def test_a_scan_that_fails_releases_nothing_and_says_why(tmp_path: Path, folder: Path) -> None:
    environ = with_grype(tmp_path, 'echo "failed to load vulnerability db: no such host" >&2; exit 1')
    with pytest.raises(ToolFailed, match='grype ended with 1: failed to load vulnerability db: no such host'):
        scan(folder, 'high', environ)


def test_a_missing_grype_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='grype is not installed; install it, or bake without --scan'):
        scan(folder, 'high', {'PATH': str(tmp_path)})


def test_without_a_bill_of_materials_there_is_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match='nothing to scan: the bake left no bill of materials'):
        scan(tmp_path, 'high', {})
