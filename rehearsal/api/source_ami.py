"""Debian's AMI, with which each rehearsal begins."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from moto.ec2.models.amis import Ami

# Debian's account, as https://wiki.debian.org/Cloud/AmazonEC2Image names it.
OWNER = '136693071363'


@dataclass(frozen=True)
class SourceAmi:
    """Debian's AMI: its id, its name, when it was made, and the container image that machines of it are made from."""

    ami: str
    name: str
    created: datetime
    image: str


# Debian's AMI in a rehearsal without machines.
NO_IMAGE = SourceAmi(ami='ami-0123456789abcdef0', name='debian-13-amd64-20260101-0001',
                     created=datetime(2026, 1, 1, tzinfo=timezone.utc), image='')


def register(backend: Any, source: SourceAmi) -> None:
    """Add Debian's AMI to a region, as Debian's own account publishes it."""
    ami: Any = Ami(backend, source.ami, name=source.name, description='Debian 13 (trixie)', owner_id=OWNER,
                   public=True, virtualization_type='hvm', architecture='x86_64',
                   image_location=f'{OWNER}/{source.name}',
                   hypervisor='xen', root_device_type='ebs', root_device_name='/dev/xvda',
                   creation_date=source.created, region_name=backend.region_name)
    ami.ena_support = True
    ami.ebs_snapshot.volume.size, ami.ebs_snapshot.volume.volume_type = 8, 'gp3'
    backend.amis[source.ami] = ami
