"""How all that a rehearsal has made is removed, whether or not the process that made it is still there."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
from docker.errors import APIError, NotFound

from rehearsal.naming import LABEL, Names

Kinds = dict[str, list[str]]


def leftovers(client: docker.DockerClient, names: Names) -> Kinds:
    """Return the names of what Docker has of a rehearsal."""
    label = {'label': f'{LABEL}={names.rehearsal}'}
    images = client.images.list(filters={'reference': names.images}) + client.images.list(all=True, filters=label)
    return {'containers': [found.name for found in client.containers.list(all=True, filters=label)],
            'networks': [found.name for found in client.networks.list(filters=label)],
            'volumes': [found.name for found in client.volumes.list(filters=label)],
            'images': sorted({name for image in images for name in tags_of(image, names)})}


def sweep(client: docker.DockerClient, names: Names) -> Kinds:
    """Remove all that Docker has of a rehearsal, and return what it was."""
    found = leftovers(client, names)
    with ThreadPoolExecutor(8) as threads:
        # Machines before their cards, which their network is; all of them before what they use.
        machines = [name for name in found['containers'] if not name.endswith('-card')]
        cards = [name for name in found['containers'] if name.endswith('-card')]
        for kind in (machines, cards):
            list(threads.map(lambda name: remove(client.containers, name, force=True, v=True), kind))
        list(threads.map(lambda name: remove(client.volumes, name, force=True), found['volumes']))
    for name in found['networks']:
        remove(client.networks, name)
    for name in found['images']:
        try:
            client.images.remove(name, force=True)
        except NotFound:
            pass
    return found


def tags_of(image: Any, names: Names) -> list[str]:
    """Return by which names an image has to be removed: by its own tags, or else by its id where it has none."""
    own = [tag for tag in image.tags if tag.startswith(f'{names.images}:')]
    return own or ([] if image.tags else [str(image.id)])


def remove(collection: Any, name: str, **options: Any) -> None:
    """Remove something that may be gone already, or about to go."""
    try:
        collection.get(name).remove(**options)
    except NotFound:
        pass
    except APIError as error:
        if 'already in progress' not in str(error):
            raise
