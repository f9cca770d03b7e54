"""The optional gate before a release: grype scans an AMI's bill of materials."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
import shutil
import subprocess

from release.artefacts import BILL
from release.errors import NotVerified, ToolFailed
from release.waiting import Deadline

PROGRAM = 'grype'
SCAN_SECONDS = 600.0
POLL_SECONDS = 0.5
# The exit code of grype 0.92 and newer for a vulnerability at or above the severity of --fail-on. An older one ends
# with 1, as without a database: its findings count as a failed scan, which releases nothing either.
VULNERABLE = 2


def scan(folder: Path, severity: str, environ: Mapping[str, str], deadline: Deadline) -> str:
    """Return grype's report; raise NotVerified if a vulnerability of this severity or worse has a fix."""
    bill = folder / BILL
    if not bill.exists():
        raise ToolFailed(f'nothing to scan: the bake left no bill of materials in {folder}')
    program = shutil.which(PROGRAM, path=environ.get('PATH'))
    if not program:
        raise ToolFailed(f'{PROGRAM} is not installed; install it, or bake without --scan')
    with subprocess.Popen([program, f'sbom:{bill}', '--only-fixed', '--fail-on', severity], text=True,
                          env={'GRYPE_CHECK_FOR_APP_UPDATE': 'false', 'NO_COLOR': '1', **environ},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            stdout, stderr = deadline.within(SCAN_SECONDS).until(partial(_output, process), PROGRAM, every=0.0)
        finally:
            process.kill()  # no effect after its end
    report = stdout.strip()
    if process.returncode == VULNERABLE:
        raise NotVerified(f'vulnerabilities that are {severity} or worse and have a fix:\n{report}')
    if process.returncode:
        raise ToolFailed(f'{PROGRAM} ended with {process.returncode}: {stderr.strip()}; bake again, or without --scan')
    return report


def _output(process: 'subprocess.Popen[str]') -> tuple[str, str] | None:
    """Return the output of a program; None after a short wait while it runs, so that the caller can poll."""
    try:
        return process.communicate(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None
