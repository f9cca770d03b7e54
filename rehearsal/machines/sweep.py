"""The removal of everything that a rehearsal made, whether or not its server still runs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
import shutil
from typing import Any

import docker
from docker.errors import APIError, NotFound
import psutil

from rehearsal.naming import LABEL, Names

Kinds = dict[str, list[str]]
# The program of a load balancer, and the folder of its files in that of a rehearsal.
BALANCER, BALANCERS = 'haproxy', 'load-balancers'
END_SECONDS = 5


def leftovers(client: docker.DockerClient, names: Names) -> Kinds:
    """Return the names of a rehearsal's containers, networks, volumes and images."""
    label = {'label': f'{LABEL}={names.rehearsal}'}
    images = client.images.list(filters={'reference': names.images}) + client.images.list(all=True, filters=label)
    return {'containers': [each.name for each in client.containers.list(all=True, filters=label)],
            'networks': [each.name for each in client.networks.list(filters=label)],
            'volumes': [each.name for each in client.volumes.list(filters=label)],
            'images': sorted({name for image in images for name in tags_of(image, names)})}


def sweep(client: docker.DockerClient, names: Names) -> None:
    """Remove everything of a rehearsal from an engine."""
    present = leftovers(client, names)
    with ThreadPoolExecutor(8) as threads:
        # Machines before their cards, which hold their network, and both before the volumes that they use.
        machines = [name for name in present['containers'] if not name.endswith('-card')]
        cards = [name for name in present['containers'] if name.endswith('-card')]
        for kind in (machines, cards):
            list(threads.map(lambda name: remove(client.containers, name, force=True, v=True), kind))
        list(threads.map(lambda name: remove(client.volumes, name, force=True), present['volumes']))
    for name in present['networks']:
        remove(client.networks, name)
    for name in present['images']:
        remove_image(client, name)


def tags_of(image: Any, names: Names) -> list[str]:
    """Return the names by which an image is removed: its tags of this rehearsal, or its id if it has no tag at all."""
    own = [tag for tag in image.tags if tag.startswith(f'{names.images}:')]
    return own or ([] if image.tags else [str(image.id)])


def remove(collection: Any, name: str, **options: Any) -> None:
    """Remove a resource, unless it is removed already, or is being removed."""
    try:
        collection.get(name).remove(**options)
    except APIError as error:
        if not isinstance(error, NotFound) and 'already in progress' not in str(error):
            raise


def remove_image(client: docker.DockerClient, name: str) -> None:
    """Remove the name of an image, unless it is removed already, and the image with its last name."""
    with suppress(NotFound):
        client.images.remove(name, force=True)


def end_load_balancers(folder: Path) -> None:
    """End the load balancers whose files are in a folder, and delete the folder."""
    for process in balancers_in(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(END_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def balancers_in(folder: Path) -> list[psutil.Process]:
    """Return the processes of load balancers whose configuration is in a folder."""
    balancers = [each for each in psutil.process_iter(['name', 'cmdline']) if each.info['name'] == BALANCER]
    return [each for each in balancers
            if any(argument.startswith(f'{folder}/') for argument in each.info['cmdline'] or ())]
