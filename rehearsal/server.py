"""The process behind a rehearsal: the API, the machines behind it, and their end."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
import json
import logging
import os
import signal
import socket
import sys
from threading import Event, Thread
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.vpcs import VPCBackend
from moto.moto_server.werkzeug_app import create_backend_app, DomainDispatcherApplication
from moto.route53.models import route53_backends

from rehearsal import api
from rehearsal.api import amis, instances, launch_templates, source_ami, volumes
from rehearsal.api.fleet import Fleet, NoMachines
from rehearsal.api.gaps import Gaps
from rehearsal.api.groups import actions
from rehearsal.api.groups.controller import Groups
from rehearsal.api.patching import wrapping
from rehearsal.api.source_ami import NO_IMAGE, SourceAmi
from rehearsal.authority import Authority
from rehearsal.errors import RehearsalError
from rehearsal.folder import Folder
from rehearsal.listeners import serve as answer
from rehearsal.machines import debian
from rehearsal.machines.addresses import API
from rehearsal.machines.archive import Archive
from rehearsal.machines.engine import running_engines, usable_engine
from rehearsal.machines.fleet import Machines
from rehearsal.machines.images import Images
from rehearsal.machines.network import gateway, Networks
from rehearsal.machines.source_ami import make_source_ami
from rehearsal.machines.sweep import sweep
from rehearsal.names.resolver import local_address, resolver
from rehearsal.names.zones import address_in
from rehearsal.naming import Names
from rehearsal.settings import ACCOUNT, Settings

logger = logging.getLogger(__name__)


def serve(settings: Settings, ended: Event) -> None:
    """Be a rehearsal until it is to end; nothing of it is left then."""
    folder = Folder(settings.names)
    with ExitStack() as stack:
        if not stack.enter_context(folder.held()):
            raise RehearsalError(f'rehearsal {settings.name!r} is up already')
        stack.callback(folder.forget)
        folder.forget()  # one that was killed has left it

        def begin(phase: str) -> None:
            folder.tell(pid=os.getpid(), phase=phase)

        begin('start the API')
        gaps = Gaps(DomainDispatcherApplication(create_backend_app))
        facts = stack.enter_context(machines(settings, gaps, begin) if settings.machines else records(settings))
        resolver_address = stack.enter_context(resolver(settings.name, address_of))
        listener = listen(settings.port)
        port = listener.getsockname()[1]
        os.environ['MOTO_PORT'] = str(port)
        stack.callback(answer(Control(gaps), listener).close)
        folder.tell(pid=os.getpid(), region=settings.region, endpoint=f'http://localhost:{port}',
                    resolver=resolver_address, **facts)
        logger.info('rehearsal %s is up at port %s', settings.name, port)
        ended.wait()
        logger.info('rehearsal %s goes down', settings.name)


def address_of(name: str) -> str | None:
    """Return the address that a name has in this rehearsal."""
    zones = [zone for account in list(route53_backends.values()) for zone in account['global'].zones.values()]
    return local_address(name) or address_in(name, [record for zone in zones for record in list(zone.rrsets)], {})


def listen(port: int) -> socket.socket:
    """Return a socket that only this machine reaches, at a port or at any that is free."""
    try:
        return socket.create_server(('127.0.0.1', port), backlog=128)
    except OSError as error:
        raise RehearsalError(f'port {port}: {os.strerror(error.errno or 0)}; name another by --port') from error


class Control:
    def __init__(self, gaps: Gaps) -> None:
        """Answer for the API, and beside it what a rehearsal knows of itself."""
        self._gaps = gaps

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer one request."""
        if environ.get('PATH_INFO') != '/rehearsal/gaps':
            return self._gaps(environ, start_response)
        body = json.dumps(self._gaps.found).encode()
        start_response('200 OK', [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))])
        return [body]


@contextmanager
def machines(settings: Settings, gaps: Gaps, begin: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Put machines behind the API, and give what is to be known of them; they are gone after the block."""
    names = settings.names
    begin('find or start a Docker engine')
    with usable_engine() as engine:
        client = engine.client()
        begin('prepare the network')
        sweep_everywhere(names)
        try:
            networks = Networks(client, names)
            block = networks.claim_default(settings.block)
            source = make_source_ami(client, names, begin)
            begin('start the API')
            fleet = Machines(client, names, networks, Images(client, names, {source.ami: source.image}), source.image,
                             settings.shutdown_seconds, gaps, Archive(debian.mirrors(), debian.proxies()))
            place_default_vpc(str(block), settings.region)
            extend(fleet, source, settings)
            yield {'machine_endpoint': f'http://{API}', 'gateway': str(gateway(block)), 'source_ami': source.ami,
                   'engine': engine.environment.get('DOCKER_HOST', '')}
        finally:
            sweep(client, names)


def sweep_everywhere(names: Names) -> None:
    """Remove what one that was killed has left, on whichever engine it was."""
    with running_engines() as engines:
        for engine in engines:
            sweep(engine.client(), names)


@contextmanager
def records(settings: Settings) -> Iterator[dict[str, Any]]:
    """Put nothing behind the API, and give what is to be known of it."""
    extend(NoMachines(NO_IMAGE.ami), NO_IMAGE, settings)
    yield {'source_ami': NO_IMAGE.ami}


def extend(fleet: Fleet, source: SourceAmi, settings: Settings) -> None:
    """Extend moto by what it leaves out."""
    api.install(Authority(settings.name))
    instances.install(fleet)
    amis.install(fleet)
    launch_templates.install()
    volumes.install()
    groups = Groups(lambda: [group for backend in list(autoscaling_backends[ACCOUNT].values())
                             for group in list(backend.autoscaling_groups.values())])
    actions.install(groups)
    source_ami.register(ec2_backends[ACCOUNT][settings.region], source)
    groups.look_after()


def place_default_vpc(block: str, region: str) -> None:
    """Have the default VPC of a region made where its network lies."""
    @wrapping(VPCBackend, 'create_vpc')
    def create_vpc(original: Any, backend: Any, cidr_block: str, *arguments: Any, **options: Any) -> Any:
        is_ours = options.get('is_default') and backend.region_name == region
        return original(backend, block if is_ours else cidr_block, *arguments, **options)


def end_with_stdin(ended: Event, abandoned: Event) -> None:
    """Let the rehearsal end when whoever has started it is gone."""
    sys.stdin.read()
    abandoned.set()
    ended.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the rehearsal that is described by a JSON object of settings, until SIGTERM or the end of stdin."""
    parser = argparse.ArgumentParser(prog='rehearsal.server')
    parser.add_argument('settings', type=json.loads)
    parser.add_argument('--attached', action='store_true', help='end when stdin does')
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    logging.getLogger('werkzeug').setLevel(logging.WARNING)
    ended, abandoned = Event(), Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if options.attached:
        Thread(target=end_with_stdin, args=(ended, abandoned), daemon=True).start()
    assert DEFAULT_ACCOUNT_ID == ACCOUNT, 'moto was imported without its settings'
    try:
        serve(Settings(**options.settings), ended)
        if abandoned.is_set():  # nobody is going to read it
            Folder(Settings(**options.settings).names).log.unlink(missing_ok=True)
    except RehearsalError as error:
        logger.error('%s', error)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
