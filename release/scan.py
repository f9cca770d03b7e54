"""The optional gate: no image with vulnerabilities of a severity, as grype finds them in the image's SBOM."""

from collections import Counter
from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import shutil
import subprocess
from typing import Any

from release.errors import NotVerified, ToolFailed

PROGRAM = 'grype'
SEVERITIES = ('negligible', 'low', 'medium', 'high', 'critical')
DATABASE_SECONDS, SCAN_SECONDS = 300, 300
TIMED_OUT = 124
TOLD = 10
# What an SBOM in a form that grype reads is called: https://spdx.dev and https://cyclonedx.org name them so.
SBOM_NAMES = ('*.spdx.json', '*.cdx.json', '*sbom*.json')


def gate(folder: Path, severity: str, environ: Mapping[str, str]) -> str:
    """Return what a scan has found; raise NotVerified where something is at least that severe and has a fix."""
    sbom = next((path for pattern in SBOM_NAMES for path in sorted(folder.rglob(pattern))), None)
    if sbom is None:
        raise ToolFailed(f'the bake has left no SBOM in {folder}, so there is nothing to scan')
    updated = _grype(['db', 'update'], DATABASE_SECONDS, environ)
    if updated.returncode:
        last = (updated.stderr.strip().splitlines() or ['it does not say why'])[-1]
        return f'not scanned, the database of vulnerabilities cannot be updated: {last}'
    done = _grype([f'sbom:{sbom}', '--output', 'json'], SCAN_SECONDS, {**environ, 'GRYPE_DB_AUTO_UPDATE': 'false'})
    if done.returncode:
        raise ToolFailed(f'{PROGRAM} ended with {done.returncode}: {done.stderr.strip()}')
    return judged(json.loads(done.stdout)['matches'], severity)


def judged(matches: Sequence[Mapping[str, Any]], severity: str) -> str:
    """Return how many vulnerabilities there are; raise NotVerified where some are severe and a fix is published."""
    severe = [match for match in matches if _rank(match) >= SEVERITIES.index(severity) and _has_fix(match)]
    if severe:
        lines = '\n'.join(f'  {_line(match)}' for match in severe[:TOLD])
        raise NotVerified(f'{len(severe)} vulnerabilities are {severity} or worse, and have a fix:\n{lines}')
    counts = Counter(str(match['vulnerability']['severity']).lower() for match in matches)
    found = ', '.join(f'{counts[each]} {each}' for each in reversed(SEVERITIES) if counts[each])
    return f'scanned: {found or "nothing"}'


def _rank(match: Mapping[str, Any]) -> int:
    severity = str(match['vulnerability']['severity']).lower()
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def _has_fix(match: Mapping[str, Any]) -> bool:
    return bool(match['vulnerability'].get('fix', {}).get('state') == 'fixed')


def _line(match: Mapping[str, Any]) -> str:
    found, package = match['vulnerability'], match['artifact']
    fixed = ', '.join(found['fix'].get('versions', []))
    return f'{found["id"]} ({found["severity"]}) in {package["name"]} {package["version"]}, fixed in {fixed}'


def _grype(arguments: list[str], seconds: float, environ: Mapping[str, str]) -> 'subprocess.CompletedProcess[str]':
    plain = {'GRYPE_CHECK_FOR_APP_UPDATE': 'false', 'NO_COLOR': '1', **environ}
    try:
        found = shutil.which(PROGRAM, path=environ.get('PATH')) or PROGRAM
        return subprocess.run([found, *arguments], env=plain, capture_output=True, text=True, timeout=seconds,
                              check=False)
    except FileNotFoundError:
        raise ToolFailed(f'{PROGRAM} is not installed; install it, or bake without --scan') from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, TIMED_OUT, '', f'it has not ended within {seconds:.0f} s')
