"""The server process of a rehearsal: it starts the API and the machines, and removes them at its end."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, ExitStack
import json
import logging
import os
import signal
import socket
import sys
from threading import Event, Thread
from typing import Any

from rehearsal.api.fleet import Records
from rehearsal.api.service import Api
from rehearsal.api.source_ami import NO_IMAGE
from rehearsal.authority import Authority
from rehearsal.clocks import Clocks
from rehearsal.control import Control
from rehearsal.databases.access_keys import secret_of
from rehearsal.databases.service import Databases, PlaceOf
from rehearsal.errors import RehearsalError
from rehearsal.folder import Folder
from rehearsal.listeners import serve as answer
from rehearsal.machines import debian
from rehearsal.machines.addresses import API
from rehearsal.machines.archive import Archive
from rehearsal.machines.engine import running_engines, usable_engine
from rehearsal.machines.firewall import Firewall
from rehearsal.machines.fleet import Machines
from rehearsal.machines.images import Images
from rehearsal.machines.load_balancers import LoadBalancers
from rehearsal.machines.network import gateway, Networks
from rehearsal.machines.source_ami import make_source_ami
from rehearsal.machines.sweep import sweep
from rehearsal.names.resolver import resolver
from rehearsal.names.sources import address_of
from rehearsal.naming import Names
from rehearsal.settings import Settings

logger = logging.getLogger(__name__)


def serve(settings: Settings, ended: Event) -> None:
    """Run a rehearsal until `ended` is set, and remove everything that it made."""
    folder = Folder(settings.names)
    with ExitStack() as stack:
        if not stack.enter_context(folder.held()):
            raise RehearsalError(f'rehearsal {settings.name!r} is already up')
        stack.callback(folder.forget)
        folder.forget()  # of a server that was killed

        def begin(phase: str) -> None:
            folder.write(pid=os.getpid(), phase=phase)

        begin('start the API')
        api, authority = Api(), Authority(settings.name)
        folder.authority.write_bytes(authority.certificate)
        facts = stack.enter_context(machines(settings, api, authority, begin, folder) if settings.machines else
                                    records(settings, api, authority, folder))
        resolver_address = stack.enter_context(resolver(settings.name, address_of))
        listener = listen(settings.port)
        port = listener.getsockname()[1]
        os.environ['MOTO_PORT'] = str(port)
        stack.callback(answer(Control(api), listener).close)
        folder.write(pid=os.getpid(), region=settings.region, endpoint=f'http://localhost:{port}',
                     resolver=resolver_address, authority=str(folder.authority), **facts)
        logger.info('rehearsal %s is up at port %s', settings.name, port)
        ended.wait()
        logger.info('rehearsal %s goes down', settings.name)


def listen(port: int) -> socket.socket:
    """Return a socket on the loopback at a port; 0 takes a free one."""
    try:
        return socket.create_server(('127.0.0.1', port), backlog=128)
    except OSError as error:
        raise RehearsalError(f'port {port}: {os.strerror(error.errno or 0)}; choose another with --port') from error


@contextmanager
def machines(settings: Settings, api: Api, authority: Authority, begin: Callable[[str], None],
             folder: Folder) -> Iterator[dict[str, Any]]:
    """Put machines behind the API, and give the facts about them; the end of the block removes them."""
    names = settings.names
    begin('find or start a Docker engine')
    with usable_engine() as engine, closing(Firewall(api.lock)) as firewall:
        client = engine.client()
        begin('prepare the network')
        sweep_everywhere(names)
        clocks = Clocks(settings.pace)
        balancers = LoadBalancers(settings.name, folder.path, api.lock, clocks=clocks)
        balancers.start()
        try:
            networks = Networks(client, names)
            block = networks.claim_default(settings.block)
            source = make_source_ami(client, names, begin)
            begin('start the API')
            fleet = Machines(client, names, networks, Images(client, names, {source.ami: source.image}), source.image,
                             settings.shutdown_seconds, api, Archive(debian.mirrors(), debian.proxies()), firewall,
                             folder.authority)
            with databases(settings, api, authority, folder, networks.gateway_of) as servers:
                api.extend(fleet, source, settings.region, authority, block, balancers, servers, clocks)
                yield {'machine_endpoint': f'http://{API}', 'gateway': str(gateway(block)), 'source_ami': source.ami,
                       'engine': engine.environment.get('DOCKER_HOST', '')}
        finally:
            balancers.stop()
            sweep(client, names)


def sweep_everywhere(names: Names) -> None:
    """Remove the remains of a server that was killed, on whichever engine they are."""
    with running_engines() as engines:
        for engine in engines:
            sweep(engine.client(), names)


@contextmanager
def records(settings: Settings, api: Api, authority: Authority, folder: Folder) -> Iterator[dict[str, Any]]:
    """Put records alone behind the API, and database servers if they have an address; give the facts about them."""
    with ExitStack() as stack:
        servers = stack.enter_context(databases(settings, api, authority, folder, lambda _: settings.database_address)
                                      ) if settings.database_address else None
        api.extend(Records(NO_IMAGE.ami), NO_IMAGE, settings.region, authority, databases=servers,
                   clocks=Clocks(settings.pace))
        yield {'source_ami': NO_IMAGE.ami}


@contextmanager
def databases(settings: Settings, api: Api, authority: Authority, folder: Folder,
              address_in: PlaceOf) -> Iterator[Databases]:
    """Give database servers, which end with the block."""
    servers = Databases(folder.databases, authority, address_in, secret_of, api.permissions.allows,
                        api.when_alone, Clocks(settings.pace))
    try:
        yield servers
    finally:
        servers.close()


def end_with_stdin(ended: Event, abandoned: Event) -> None:
    """End the rehearsal when the process that started it ends, which closes stdin."""
    sys.stdin.read()
    abandoned.set()
    ended.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rehearsal that a JSON object of settings describes, until SIGTERM or the end of stdin."""
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
    try:
        serve(Settings(**options.settings), ended)
        if abandoned.is_set():  # no process reads the log
            Folder(Settings(**options.settings).names).log.unlink(missing_ok=True)
    except RehearsalError as error:
        logger.error('%s', error)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
