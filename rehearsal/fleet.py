"""The machines behind the API's instances."""

from datetime import datetime, timezone
from ipaddress import IPv4Network
from typing import Any, Protocol

import docker
from moto.autoscaling.models import autoscaling_backends
from moto.iam.models import iam_backends

from rehearsal.archive import HOSTS
from rehearsal.doors import API, Application, ARCHIVE, METADATA
from rehearsal.errors import RehearsalError
from rehearsal.images import Images
from rehearsal.imds import MetadataService
from rehearsal.machine import DockerMachine, Specification
from rehearsal.metadata import instance_tree, Tree
from rehearsal.naming import Names
from rehearsal.network import Networks
from rehearsal.power import Power
from rehearsal.records import MotoRecord

MEBIBYTE = 1024 * 1024


class Fleet(Protocol):
    """What is done with machines when the API is asked for something."""

    def check(self, ami: str) -> None:
        """Refuse an AMI that no machine can be made from."""

    def launch(self, instance: Any) -> None:
        """Have a new instance's machine made and started."""

    def start(self, instance: Any) -> None:
        """Have an instance's machine started again."""

    def stop(self, instance: Any) -> None:
        """Have an instance's machine shut down."""

    def reboot(self, instance: Any) -> None:
        """Have an instance's machine shut down and started again."""

    def terminate(self, instance: Any) -> None:
        """Have an instance's machine shut down and removed."""

    def console(self, instance: str) -> str:
        """Return what an instance has written to its console."""

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Have an instance's disks stored under the id of an AMI."""

    def copy(self, source: str, ami: Any) -> None:
        """Have an AMI stored once more."""

    def forget(self, ami: str) -> None:
        """Have what is stored of an AMI deleted."""


class Machines:
    def __init__(self, client: docker.DockerClient, names: Names, networks: Networks, images: Images, card_image: str,
                 patience: int) -> None:
        """Make machines; who shuts down in order has so many seconds for it."""
        self._client = client
        self._names = names
        self._networks = networks
        self._images = images
        self._card_image = card_image
        self._patience = patience
        self._machines: dict[str, tuple[DockerMachine, Power]] = {}
        self.api: Application | None = None
        self.archive: Application | None = None

    def check(self, ami: str) -> None:
        """Refuse an AMI that no machine can be made from."""
        self._images.of(ami)

    def launch(self, instance: Any) -> None:
        """Have a new instance's machine made and started."""
        machine = DockerMachine(self._client, self._names, self._networks, self._specify(instance),
                                self._applications(instance))
        power = Power(MotoRecord(instance), machine, self._patience)
        self._machines[instance.id] = machine, power
        power.launch()

    def start(self, instance: Any) -> None:
        """Have an instance's machine started again."""
        self._power(instance).start()

    def stop(self, instance: Any) -> None:
        """Have an instance's machine shut down."""
        self._power(instance).stop()

    def reboot(self, instance: Any) -> None:
        """Have an instance's machine shut down and started again."""
        self._power(instance).reboot()

    def terminate(self, instance: Any) -> None:
        """Have an instance's machine shut down and removed."""
        self._power(instance).terminate()

    def console(self, instance: str) -> str:
        """Return what an instance has written to its console."""
        return self._machines[instance][0].console()

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Have an instance's disks stored under the id of an AMI."""
        machine, power = self._machines[instance.id]
        power.do(lambda: self._capture(ami, machine), while_off)

    def copy(self, source: str, ami: Any) -> None:
        """Have an AMI stored once more."""
        self._images.copy(source, ami.id)
        ami.state = 'available'

    def forget(self, ami: str) -> None:
        """Have what is stored of an AMI deleted."""
        self._images.forget(ami)

    def _capture(self, ami: Any, machine: DockerMachine) -> None:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html
        try:
            self._images.capture(ami.id, machine)
        except Exception:
            ami.state = 'failed'
            raise
        ami.state = 'available'

    def _power(self, instance: Any) -> Power:
        return self._machines[instance.id][1]

    def _specify(self, instance: Any) -> Specification:
        stored = self._images.of(instance.image_id)
        card = instance.nics[0]
        block = IPv4Network(instance.ec2_backend.get_vpc(card.subnet.vpc_id).cidr_block)
        return Specification(
            instance=instance.id, image=stored.image, data=stored.data, card_image=self._card_image, block=block,
            address=instance.private_ip, mac=card.mac_address, hostname=instance.private_dns_name.partition('.')[0],
            memory=memory_of(instance) * MEBIBYTE, hosts={host: ARCHIVE for host in HOSTS if is_built_on(instance)})

    def _applications(self, instance: Any) -> dict[str, Application]:
        public_key = public_key_of(instance)  # as it is now: the key pair may be deleted any time
        metadata = MetadataService(lambda: tree_of(instance, public_key), lambda: instance.metadata_options)
        applications: dict[str, Application | None] = {METADATA: metadata, API: self.api}
        if is_built_on(instance):
            applications[ARCHIVE] = self.archive
        return {address: application for address, application in applications.items() if application}


class NoMachines:
    def __init__(self, source: str) -> None:
        """Keep records of instances, and have nothing behind them; `source` is the AMI that is there at first."""
        self._amis = {source}

    def check(self, ami: str) -> None:
        """Refuse an AMI that is not known."""
        if ami not in self._amis:
            raise RehearsalError(f'{ami} is not known')

    def launch(self, instance: Any) -> None:
        """Tell that a new instance runs."""
        MotoRecord(instance).running()

    def start(self, instance: Any) -> None:
        """Tell that an instance runs again."""
        MotoRecord(instance).running()

    def stop(self, instance: Any) -> None:
        """Tell that an instance is off."""
        MotoRecord(instance).stopped(by_itself=False)

    def reboot(self, instance: Any) -> None:
        """Tell that an instance runs."""

    def terminate(self, instance: Any) -> None:
        """Tell that an instance is no more."""
        MotoRecord(instance).terminated(by_itself=False)

    def console(self, instance: str) -> str:
        """Return that nothing was written."""
        return ''

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Tell that an AMI is there."""
        self._amis.add(ami.id)
        ami.state = 'available'

    def copy(self, source: str, ami: Any) -> None:
        """Tell that an AMI is there once more."""
        self._amis.add(ami.id)
        ami.state = 'available'

    def forget(self, ami: str) -> None:
        """Know an AMI no more."""
        self._amis.discard(ami)


def is_built_on(instance: Any) -> bool:
    """Return whether somebody is going to log in and install packages: nobody else's machine has a key pair."""
    return bool(instance.key_name)


def memory_of(instance: Any) -> int:
    """Return the mebibytes that an instance of this type has."""
    (described,) = instance.ec2_backend.describe_instance_types([instance.instance_type])
    return int(described['MemoryInfo']['SizeInMiB'])


def tree_of(instance: Any, public_key: str | None) -> Tree:
    """Return what an instance can learn of itself now."""
    return instance_tree(instance, public_key=public_key, role=role_of(instance),
                         lifecycle_state=lifecycle_state_of(instance), now=datetime.now(timezone.utc))


def public_key_of(instance: Any) -> str | None:
    """Return the public half of the key pair that an instance is launched with."""
    pair = instance.ec2_backend.key_pairs.get(instance.key_name)
    return pair.public_key.strip() if pair else None


def role_of(instance: Any) -> str | None:
    """Return the name of the role in an instance's profile."""
    if not instance.iam_instance_profile:
        return None
    profiles = iam_backends[instance.owner_id]['aws'].get_instance_profiles()
    arn = instance.iam_instance_profile['Arn']
    return next((role.name for profile in profiles if profile.arn == arn for role in profile.roles), None)


def lifecycle_state_of(instance: Any) -> str | None:
    """Return the state that an instance of a group is on its way to.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
    """
    groups = autoscaling_backends[instance.owner_id][instance.region_name]
    states: list[Any] = groups.describe_auto_scaling_instances([instance.id])
    if not states:
        return None
    return 'Terminated' if states[0].lifecycle_state.startswith('Terminat') else 'InService'
