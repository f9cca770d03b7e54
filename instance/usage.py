"""The use of memory and disk by this instance, as metrics of CloudWatch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import os
from pathlib import Path
import sys
import threading

from instance.aws import Aws, AwsFailed
from instance.machine import Machine
from instance.user_data import UserData

INTERVAL_SECONDS = 60
# The file system of the journal, the image and the containers.
DISK = Path('/var/lib')


def usage(memory_information: str, disk: os.statvfs_result) -> Mapping[str, float]:
    """Return the metrics by name, in per cent: memory by the kernel's own estimate, the disk as `df` shows it."""
    memory = {name: int(value.split()[0]) for name, _, value in
              (line.partition(':') for line in memory_information.splitlines()) if value.split()}
    used = disk.f_blocks - disk.f_bfree
    return {
        'MemoryUsed': 100 * (1 - memory['MemAvailable'] / memory['MemTotal']),
        'DiskUsed': 100 * used / (used + disk.f_bavail),
    }


def dimensions_of(user_data: UserData) -> Mapping[str, str]:
    """Return the dimensions: the group and no instance, because CloudWatch charges for each combination."""
    group = user_data.auto_scaling_group
    return {'AutoScalingGroupName': group} if group else {}


@contextmanager
def reported(machine: Machine) -> Iterator[None]:
    """Send the metrics once a minute, at first at once, while the block runs."""
    over = threading.Event()
    threading.Thread(target=_report_until, args=(over, Aws(machine.user_data), machine.user_data), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _report_until(over: threading.Event, aws: Aws, user_data: UserData) -> None:
    refusal = ''
    while not over.is_set():
        try:
            aws.measure(_of_this_instance(), dimensions_of(user_data))
        except AwsFailed as error:
            # An outage of AWS is already in the log, by the sender of the log; a refusal is logged once.
            if not error.is_transient and error.message != refusal:
                refusal = error.message
                print(f'usage: {error}', file=sys.stderr, flush=True)
        over.wait(INTERVAL_SECONDS)


def _of_this_instance() -> Mapping[str, float]:
    return usage(Path('/proc/meminfo').read_text(encoding='ascii'), os.statvfs(DISK))
