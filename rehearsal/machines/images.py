"""The disks of AMIs: for each a container image, and a volume with the data of the machine's own engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import docker

from rehearsal.errors import RehearsalError
from rehearsal.machines.machine import copy_folder, DockerMachine
from rehearsal.machines.sweep import remove, remove_image
from rehearsal.naming import Names


@dataclass(frozen=True)
class Stored:
    """The disks of an AMI: its root file system as a container image, and the volume of its engine's data."""

    image: str
    data: str | None


class Images:
    """The container images and volumes that hold the disks of AMIs."""

    def __init__(self, client: docker.DockerClient, names: Names, source: Mapping[str, str]) -> None:
        """Store disks; `source` holds the images of the AMIs that exist from the start."""
        self._client = client
        self._names = names
        self._stored = {ami: Stored(image, None) for ami, image in source.items()}
        self._lock = Lock()

    def of(self, ami: str) -> Stored:
        """Return the disks of an AMI."""
        if ami not in self._stored:
            raise RehearsalError(f'{ami} has no disks: here only CreateImage and CopyImage make AMIs with disks')
        return self._stored[ami]

    def capture(self, ami: str, machine: DockerMachine) -> None:
        """Store a machine's disks under an AMI's id."""
        image = f'{self._names.images}:{ami}'
        machine.container.commit(self._names.images, tag=ami, changes=self._changes())
        volume = self._client.volumes.create(self._names.volume(ami), labels=self._names.labels)
        copy_folder(machine.data_folder, volume.attrs['Mountpoint'])
        self._stored[ami] = Stored(image, volume.name)

    def copy(self, source: str, ami: str) -> None:
        """Store the disks of an AMI under the id of its copy, too; both share them."""
        stored = self.of(source)
        self._client.images.get(stored.image).tag(self._names.images, ami)
        self._stored[ami] = Stored(f'{self._names.images}:{ami}', stored.data)

    def forget(self, ami: str) -> None:
        """Delete the disks of an AMI that no copy shares; machines made from it keep running."""
        with self._lock:
            stored = self._stored.pop(ami, None)
            shared = {other.data for other in self._stored.values()}
        if stored:
            self._remove(stored, shared)

    def _remove(self, stored: Stored, shared: set[str | None]) -> None:
        remove_image(self._client, stored.image)
        if stored.data and stored.data not in shared:
            remove(self._client.volumes, stored.data)

    def _changes(self) -> list[str]:
        labels: list[Any] = [f'LABEL {name}={value}' for name, value in self._names.labels.items()]
        return ['ENTRYPOINT []', *labels]
