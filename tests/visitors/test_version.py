"""The version of a build, as the release tool makes it and the application reports it."""

import json
from pathlib import Path
import re
import subprocess
import sys

import pytest

from release.version import BUILD_COUNTERS, build_version, VersionError
from tests.support.server import ROOT
from visitors.version import read_version, Version


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a git checkout of version 1.0.2 with three commits."""
    (tmp_path / 'version.txt').write_text('1.0.2\n', encoding='utf-8')
    who = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
    subprocess.run(['git', 'init', '--quiet', str(tmp_path)], check=True)
    for subject in ('one', 'two', 'three'):
        subprocess.run(['git', '-C', str(tmp_path), *who, 'commit', '--quiet', '--allow-empty', '-m', subject],
                       check=True)
    return tmp_path


def test_without_a_ci_the_build_number_is_the_number_of_commits(checkout: Path) -> None:
    build = build_version({}, checkout)
    assert (build.version, build.image_tag) == ('1.0.2+build.3', '1.0.2-build.3')
    assert re.fullmatch('[0-9a-f]{40}', build.commit)


@pytest.mark.parametrize('counter', BUILD_COUNTERS)
def test_the_counter_of_a_ci_is_the_build_number(checkout: Path, counter: str) -> None:
    assert build_version({counter: '41'}, checkout).image_tag == '1.0.2-build.41'


@pytest.mark.parametrize('text', ['1.0', '1.0.2-rc', '01.0.2', 'v1.0.2', ''])
def test_a_version_that_is_not_three_numbers_is_refused(checkout: Path, text: str) -> None:
    (checkout / 'version.txt').write_text(text, encoding='utf-8')
    with pytest.raises(VersionError, match='write MAJOR.MINOR.PATCH'):
        build_version({}, checkout)


def test_a_counter_that_is_no_number_is_refused_by_name(checkout: Path) -> None:
    with pytest.raises(VersionError, match='CI_PIPELINE_IID=x'):
        build_version({'CI_PIPELINE_IID': 'x'}, checkout)


def test_the_application_tells_what_the_build_wrote(checkout: Path) -> None:
    build = build_version({}, checkout)
    (checkout / 'build.json').write_text(json.dumps(build.as_dict()), encoding='utf-8')
    assert read_version(checkout) == Version(build.version, build.commit, build.build_time)


def test_without_a_build_the_application_tells_the_number_alone(checkout: Path) -> None:
    assert read_version(checkout) == Version('1.0.2')


def test_what_a_build_of_another_version_wrote_does_not_count(checkout: Path) -> None:
    (checkout / 'build.json').write_text('{"version": "1.0.1+build.9"}', encoding='utf-8')
    assert read_version(checkout) == Version('1.0.2')


def test_the_command_prints_the_tag_from_any_folder_that_finds_it(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, '-m', 'release', 'version', '--tag'], cwd=tmp_path, text=True,
                            capture_output=True, check=True, env={'PYTHONPATH': str(ROOT), 'PATH': '/usr/bin:/bin',
                                                                  'CI_PIPELINE_IID': '7'})
    assert result.stdout.endswith('-build.7\n')
