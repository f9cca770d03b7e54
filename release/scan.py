"""The optional gate before a release: grype scans an AMI's bill of materials."""

from collections.abc import Mapping
from pathlib import Path
import shutil
import subprocess

from release.errors import NotVerified, ToolFailed

PROGRAM = 'grype'
SCAN_SECONDS = 600
# grype's exit code for a vulnerability at or above the severity of --fail-on; versions before 0.91.1 exit with 1.
FOUND = 2
# The usual names of a bill of materials: https://spdx.dev and https://cyclonedx.org
SBOM_NAMES = ('*.spdx.json', '*.cdx.json', '*sbom*.json')


def scan(folder: Path, severity: str, environ: Mapping[str, str]) -> str:
    """Return grype's report; raise NotVerified if a vulnerability of this severity or worse has a fix."""
    sbom = next((path for pattern in SBOM_NAMES for path in sorted(folder.rglob(pattern))), None)
    if sbom is None:
        raise ToolFailed(f'nothing to scan: the bake left no bill of materials in {folder}')
    program = shutil.which(PROGRAM, path=environ.get('PATH'))
    if not program:
        raise ToolFailed(f'{PROGRAM} is not installed; install it, or bake without --scan')
    try:
        process = subprocess.run([program, f'sbom:{sbom}', '--only-fixed', '--fail-on', severity], text=True,
                                 env={'GRYPE_CHECK_FOR_APP_UPDATE': 'false', 'NO_COLOR': '1', **environ},
                                 capture_output=True, timeout=SCAN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ToolFailed(f'{PROGRAM} did not end within {SCAN_SECONDS} s; bake again, or without --scan') from None
    report = process.stdout.strip()
    if process.returncode == FOUND:
        raise NotVerified(f'vulnerabilities that are {severity} or worse and have a fix:\n{report}')
    if process.returncode:
        reason = process.stderr.strip()
        raise ToolFailed(f'{PROGRAM} ended with {process.returncode}: {reason}; bake again, or without --scan')
    return report
