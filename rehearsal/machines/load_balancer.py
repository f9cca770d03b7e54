"""One load balancer: the haproxy that listens at its address, and the processes before it that answer their last."""

from collections.abc import Callable, Mapping
from dataclasses import replace
import logging
import os
from pathlib import Path
from queue import SimpleQueue
import shutil
import subprocess
from threading import Thread
import time

from rehearsal.api.routing import Configuration, Listener, Plan
from rehearsal.api.traffic import Request
from rehearsal.errors import RehearsalError
from rehearsal.machines.haproxy import Admin, backend_of, fingerprints, parse, Server, write
from rehearsal.machines.sweep import BALANCER, end_load_balancers

logger = logging.getLogger(__name__)

START_SECONDS = 20
# The queue of a Unix datagram socket holds ten messages by default, so haproxy would drop lines of a busy log.
PIPE_BYTES = 1024 * 1024
Servers = Mapping[str, Mapping[str, Server]]


class LoadBalancer:
    """The haproxy of one load balancer, which a newer process replaces at each change of its configuration."""

    def __init__(self, folder: Path, address: str, port_of: Callable[[int], int],
                 answered: Callable[[Request], None]) -> None:
        """Listen at an address; `port_of` maps the ports of listeners, `answered` takes each request."""
        self.address = address
        self._folder = folder
        self._port_of = port_of
        self._answered = answered
        self._generation = 0
        self._loaded: Configuration | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[Thread] = []
        self._admin = Admin(folder / 'none')
        self._servers: dict[str, dict[str, Server]] = {}

    def follow(self, plan: Plan, address_of: Callable[[str, int], str]) -> None:
        """Carry out a plan; `address_of` returns the address of an instance's port."""
        servers: dict[str, dict[str, Server]] = {}
        for group, targets in plan.targets.items():
            servers[backend_of(group)] = {
                target.instance: Server(target.instance, address_of(target.instance, target.port), target.receives)
                for target in targets}
        if not plan.configuration.listeners:
            self._end()
        elif plan.configuration != self._loaded or self._process is None or self._process.poll() is not None:
            self._load(plan.configuration, servers)
        if self._process:
            self._update(servers)

    def close(self) -> None:
        """End all processes and delete their files."""
        self._end()
        end_load_balancers(self._folder)
        for reader in self._readers:
            reader.join()

    def _load(self, configuration: Configuration, servers: Servers) -> None:
        self._generation += 1
        folder = self._folder / str(self._generation)
        admin = Admin(folder / 'admin')
        ports = {listener.port: self._port_of(listener.port) for listener in configuration.listeners}
        path = write(folder, configuration, self.address, ports, admin.path,
                     {name: list(each.values()) for name, each in servers.items()})
        command = [program(), '-db', '-f', str(path)]
        before = self._process if self._process and self._process.poll() is None else None
        if before:
            command += ['-x', str(self._admin.path), '-sf', str(before.pid)]
        process = start(command, folder / 'errors')
        self._read(process, configuration)
        wait_for(process, admin, folder / 'errors')
        self._process, self._admin, self._loaded = process, admin, configuration
        # Of the servers only the receiving ones are in the file.
        self._servers = {name: {server.name: server for server in each.values() if server.receives}
                         for name, each in servers.items()}

    def _update(self, servers: Servers) -> None:
        for backend, wanted in servers.items():
            present = self._servers.setdefault(backend, {})
            for name, server in list(present.items()):
                is_moved = name in wanted and wanted[name].address != server.address
                if (name not in wanted or is_moved) and self._admin.remove(backend, name):
                    del present[name]
            for name, server in wanted.items():
                if name not in present:
                    self._admin.add(backend, server)
                    self._admin.send(backend, server)
                    present[name] = server
                elif present[name].receives != server.receives:
                    present[name] = replace(present[name], receives=server.receives)
                    self._admin.send(backend, present[name])

    def _read(self, process: subprocess.Popen[bytes], configuration: Configuration) -> None:
        listeners = {listener.port: listener for listener in configuration.listeners}
        arns = fingerprints(each for listener in configuration.listeners for each in listener.certificates)
        log: SimpleQueue[bytes] = SimpleQueue()
        new = [Thread(target=read, args=(process, log), daemon=True),
               Thread(target=self._pass_on, args=(log, listeners, arns), daemon=True)]
        self._readers = [reader for reader in self._readers if reader.is_alive()] + new
        for reader in new:
            reader.start()

    def _pass_on(self, log: SimpleQueue[bytes], listeners: Mapping[int, Listener], arns: Mapping[str, str]) -> None:
        rest = b''
        while part := log.get():
            *lines, rest = (rest + part).split(b'\n')
            for line in lines:
                try:
                    request = parse(line.decode(errors='replace'), listeners, arns)
                except (ValueError, KeyError):
                    logger.exception('haproxy wrote %s', line)
                    continue
                if request:
                    self._answered(request)

    def _end(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
        self._process, self._loaded, self._servers = None, None, {}


def program() -> str:
    """Return the path of haproxy, which Debian installs to a folder that only root's PATH has."""
    path = shutil.which(BALANCER, path=f'{os.environ["PATH"]}:/usr/sbin')
    if not path:
        raise RehearsalError(f'no {BALANCER}: apt-get install {BALANCER}')
    return path


def start(command: list[str], errors: Path) -> subprocess.Popen[bytes]:
    """Start a haproxy, whose log is its standard output."""
    with errors.open('w', encoding='utf-8') as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file,
                                pipesize=PIPE_BYTES, start_new_session=True)


def read(process: subprocess.Popen[bytes], log: SimpleQueue[bytes]) -> None:
    """Read the log of a haproxy at once, because it drops the lines for which its pipe has no room."""
    assert process.stdout
    with process.stdout as pipe:
        while part := os.read(pipe.fileno(), PIPE_BYTES):
            log.put(part)
    log.put(b'')
    process.wait()


def wait_for(process: subprocess.Popen[bytes], admin: Admin, errors: Path) -> None:
    """Wait until a haproxy answers; raise RehearsalError with its errors if it ends before."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            admin('show info')
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                reason = errors.read_text(encoding='utf-8').strip()
                raise RehearsalError(f'haproxy does not start:\n{reason}') from None
            time.sleep(0.01)
