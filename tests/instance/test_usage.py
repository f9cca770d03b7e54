"""The use of memory and disk by an instance reaches CloudWatch, and never disturbs the log."""

import os
from pathlib import Path
import re
import signal

import pytest

from instance.usage import dimensions_of, usage
from instance.user_data import UserData
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.machine_folder import FolderMachine, PREFIX, STEP_SECONDS
from tests.support.waiting import eventually
from tests.support.warm import WarmProcess

# Of Debian 13; the first lines and some without a unit.
MEMORY = 'MemTotal: 2000000 kB\nMemFree: 50000 kB\nMemAvailable: 500000 kB\nHugePages_Total: 0\n'


def disk(blocks: int, free: int, available: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, available, 0, 0, 0, 0, 255))


@pytest.fixture
def grouped(machine: FolderMachine, aws: EmbeddedRehearsal) -> FolderMachine:
    """Give a machine in a group, whose journal is empty."""
    aws.client('logs').create_log_group(logGroupName=PREFIX)
    machine.install('journalctl', 'exec sleep 600')
    machine.write_user_data(PARAMETER_PREFIX=PREFIX, AWS_REGION=aws.region, DEPLOY_ID='7',
                            AUTO_SCALING_GROUP='visitors-test')
    return machine


def end(process: WarmProcess) -> str:
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 0, stderr
    return stderr


def test_memory_that_the_kernel_can_free_is_not_used() -> None:
    assert usage(MEMORY, disk(1000, 500, 450))['MemoryUsed'] == 75


def test_blocks_that_only_root_may_use_are_no_room() -> None:
    assert usage(MEMORY, disk(1000, 250, 150))['DiskUsed'] == pytest.approx(100 * 750 / 900)


def test_the_figures_of_this_machine_are_shares() -> None:
    values = usage(Path('/proc/meminfo').read_text(encoding='ascii'), os.statvfs('/'))
    assert all(0 < value < 100 for value in values.values()), values


def test_an_instance_outside_a_group_has_no_dimension() -> None:
    assert dimensions_of(UserData()) == {}


def test_the_use_of_memory_and_disk_is_sent_under_the_group(grouped: FolderMachine, aws: EmbeddedRehearsal) -> None:
    def metrics() -> dict[str, list[dict[str, str]]]:
        listing = aws.client('cloudwatch').list_metrics(Namespace='Visitors')['Metrics']
        return {each['MetricName']: each['Dimensions'] for each in listing}

    group = [{'Name': 'AutoScalingGroupName', 'Value': 'visitors-test'}]
    with grouped.start('logs') as process:
        eventually(lambda: metrics() == {'MemoryUsed': group, 'DiskUsed': group}, lambda: f'both: {metrics()}')
        assert end(process) == ''


def test_a_missing_permission_is_logged_and_the_log_goes_on(grouped: FolderMachine, aws: EmbeddedRehearsal) -> None:
    aws.faults.refuse('PutMetricData', status=403, code='AccessDenied')
    with grouped.start('logs') as process:
        assert process.stderr
        assert re.match('usage: metrics MemoryUsed, DiskUsed: AccessDenied', process.stderr.readline())
        assert end(process) == ''
