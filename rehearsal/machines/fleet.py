"""The machines behind the API's instances."""

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker

from rehearsal.api.connections import connections_of
from rehearsal.api.instance_records import MotoRecord
from rehearsal.listeners import Application
from rehearsal.machines.addresses import API, ARCHIVE, METADATA
from rehearsal.machines.archive import HOSTS
from rehearsal.machines.firewall import Firewall
from rehearsal.machines.images import Images
from rehearsal.machines.machine import DockerMachine, Specification
from rehearsal.machines.metadata.sources import service_of
from rehearsal.machines.namespace import Namespace
from rehearsal.machines.network import Networks
from rehearsal.machines.power import Power
from rehearsal.machines.ruleset import ruleset
from rehearsal.naming import Names

MEBIBYTE = 1024 * 1024
# The authorities of the database's certificate in the AMI of this project. Here the rehearsal signs that certificate.
DATABASE_AUTHORITIES = '/etc/visitors/database-ca.pem'


class Machines:
    """The machines of one rehearsal, and the disks of its AMIs."""

    def __init__(self, client: docker.DockerClient, names: Names, networks: Networks, images: Images, card_image: str,
                 patience: int, api: Application, archive: Application, firewall: Firewall, authority: Path) -> None:
        """Make machines from these parts; each has `patience` seconds to shut down, and trusts the authority."""
        self._client = client
        self._names = names
        self._networks = networks
        self._images = images
        self._card_image = card_image
        self._patience = patience
        self._machines: dict[str, tuple[DockerMachine, Power]] = {}
        self._api = api
        self._archive = archive
        self._firewall = firewall
        self._authority = authority

    def check(self, ami: str) -> None:
        """Refuse an AMI that no machine can be made from."""
        self._images.of(ami)

    def launch(self, instance: Any) -> None:
        """Order that a new instance's machine is made and started."""
        machine = DockerMachine(self._client, self._names, self._networks, self._specify(instance),
                                self._applications(instance), lambda namespace: self._protect(namespace, instance))
        power = Power(MotoRecord(instance), machine, self._patience)
        self._machines[instance.id] = machine, power
        power.launch()

    def start(self, instance: Any) -> None:
        """Order that an instance's machine is started again."""
        self._power(instance).start()

    def stop(self, instance: Any) -> None:
        """Order that an instance's machine is shut down."""
        self._power(instance).stop()

    def reboot(self, instance: Any) -> None:
        """Order that an instance's machine is shut down and started again."""
        self._power(instance).reboot()

    def terminate(self, instance: Any) -> None:
        """Order that an instance's machine is shut down and removed."""
        self._power(instance).terminate()

    def console(self, instance: Any) -> str:
        """Return the console of an instance."""
        return self._machines[instance.id][0].console()

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Order that an instance's disks are stored under the id of an AMI."""
        machine, power = self._machines[instance.id]
        power.do(lambda: self._capture(ami, machine), while_off)

    def copy(self, source: str, ami: Any) -> None:
        """Store the disks of an AMI under the id of its copy, too."""
        self._images.copy(source, ami.id)
        ami.state = 'available'

    def forget(self, ami: str) -> None:
        """Delete the disks of an AMI."""
        self._images.forget(ami)

    def forget_network(self, block: IPv4Network) -> None:
        """Delete the network of a VPC that has no machine."""
        self._networks.forget(block)

    def _protect(self, namespace: Namespace, instance: Any) -> Callable[[], None]:
        return self._firewall.protect(namespace, lambda: ruleset(connections_of(instance.ec2_backend, instance)))

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
            memory=memory_of(instance) * MEBIBYTE, hosts={host: ARCHIVE for host in HOSTS if is_built_on(instance)},
            # Not over the file of a machine that a bake changes, because the bake writes that file.
            overlays={} if is_built_on(instance) else {DATABASE_AUTHORITIES: str(self._authority)})

    def _applications(self, instance: Any) -> dict[str, Application]:
        applications: dict[str, Application] = {METADATA: service_of(instance), API: self._api}
        return {**applications, ARCHIVE: self._archive} if is_built_on(instance) else applications


def is_built_on(instance: Any) -> bool:
    """Return whether an instance is one to install packages on: only such a one has a key pair."""
    return bool(instance.key_name)


def memory_of(instance: Any) -> int:
    """Return the memory of an instance's type in mebibytes."""
    (description,) = instance.ec2_backend.describe_instance_types([instance.instance_type])
    return int(description['MemoryInfo']['SizeInMiB'])
