"""The images that ours starts from: public ones where they can be pulled, else stand-ins made from Debian 13."""

from ast import literal_eval
from collections.abc import Callable, Mapping
import os
from pathlib import Path
import ssl
import subprocess
import sys
import tempfile
import uuid

from rehearsal.machines.debian import root_filesystem
from rehearsal.machines.engine import CommandFailed, Engine

PYTHON_PACKAGES = ('ca-certificates', 'python3', 'python3-pip', 'python3-venv')
# The names that the public image has, and no bytecode of the standard library, as there.
PYTHON_HOOKS = ('ln -s python3 "$1"/usr/bin/python', 'ln -sf pip3 "$1"/usr/bin/pip',
                'rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
                'find "$1"/usr -name __pycache__ -prune -exec rm -r {} +')
PYTHON = """
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
COPY pip.conf /etc/
COPY certificates /etc/ssl/certs/ca-certificates.crt
CMD ["python3"]
"""
# The cluster that the packages make would only be in the way of the entry point's.
POSTGRES_HOOKS = ('rm -rf "$1"/var/lib/postgresql/* "$1"/etc/postgresql/*',)
POSTGRES = """
ENV PATH=/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PG_MAJOR={major} PGDATA={data}
COPY postgres-entrypoint /usr/local/bin/
RUN install --directory --owner=postgres --group=postgres /run/postgresql
VOLUME {volume}
ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]
CMD ["postgres"]
STOPSIGNAL SIGINT
EXPOSE 5432
"""
# Where the public images keep data. Debian 13 has no other server than 17, so it stands in for the next one, too.
FOLDERS_17 = {'major': '17', 'data': '/var/lib/postgresql/data', 'volume': '/var/lib/postgresql/data'}
FOLDERS_18 = {'major': '18', 'data': '/var/lib/postgresql/18/docker', 'volume': '/var/lib/postgresql'}
# The settings of this machine's pip that a container needs; find-links and the like name folders that it lacks.
INDEX_SETTINGS = ('index-url', 'extra-index-url', 'trusted-host')


class BaseImages:
    """The base images of an engine: those of PYTHON_IMAGE and POSTGRES_IMAGE, or else the public ones or stand-ins."""

    def __init__(self, engine: Engine, report: Callable[[str], None] = print) -> None:
        """Choose the base images of an engine: those that PYTHON_IMAGE and POSTGRES_IMAGE name, or the public ones.

        Stand-ins take their place on an engine that the tests had to start, and where the public ones are not pulled.
        """
        self._engine = engine
        self._report = report
        self._made: list[str] = []
        self._chosen: dict[str, str] = {}

    def python(self, public: str) -> str:
        """Return the name of an image with Python and pip."""
        return self._choose('PYTHON_IMAGE', public, self._python_stand_in)

    def postgres(self, public: str) -> str:
        """Return the name of an image with PostgreSQL, which obeys the public image's variables."""
        return self._choose('POSTGRES_IMAGE', public, lambda: self._postgres_stand_in(FOLDERS_17))

    def next_postgres(self) -> str:
        """Return the name of an image of the first major version that keeps its data elsewhere."""
        return self._choose('POSTGRES_18_IMAGE', 'postgres:18-trixie', lambda: self._postgres_stand_in(FOLDERS_18))

    def remove(self) -> None:
        """Delete the stand-ins from the engine; expensive results stay in the cache."""
        for image in reversed(self._made):
            self._engine.docker('image', 'rm', '--force', image)

    def _choose(self, variable: str, public: str, make_stand_in: Callable[[], str]) -> str:
        if variable not in self._chosen:
            image = os.environ.get(variable) or (public if self._can_pull(public) else make_stand_in())
            self._chosen[variable] = image
            self._report(f'{variable}={image}')
        return self._chosen[variable]

    def _can_pull(self, image: str) -> bool:
        if self._engine.is_own:
            return False
        try:
            self._engine.docker('pull', '--quiet', image)
        except (CommandFailed, subprocess.TimeoutExpired) as error:
            self._report(f'a stand-in takes the place of {image}, which cannot be pulled: {error}')
            return False
        return True

    def _python_stand_in(self) -> str:
        files = {'pip.conf': pip_settings().encode(), 'certificates': certificates()}
        return self._build('python', root_filesystem('python', PYTHON_PACKAGES, PYTHON_HOOKS), PYTHON, files)

    def _postgres_stand_in(self, folders: Mapping[str, str]) -> str:
        files = {'postgres-entrypoint': Path(__file__).with_name('postgres-entrypoint').read_bytes()}
        archive = root_filesystem('postgres', ('postgresql-17',), POSTGRES_HOOKS)
        return self._build(f'postgres-{folders["major"]}', archive, POSTGRES.format(**folders), files)

    def _build(self, name: str, archive: Path, instructions: str, files: Mapping[str, bytes]) -> str:
        tag = f'visitors-stand-in-{name}:{uuid.uuid4().hex[:12]}'
        root = f'{tag}-root'
        self._engine.docker('import', str(archive), root)
        self._made.append(root)
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
                (Path(folder) / file).chmod(0o755)
            (Path(folder) / 'Dockerfile').write_text(f'FROM {root}\n{instructions}', encoding='utf-8')
            self._engine.docker('build', *self._engine.build_options, '--tag', tag, folder)
        self._made.append(tag)
        return tag


def certificates() -> bytes:
    """Return the certificates that this machine trusts; behind a company's proxy no public bundle would do."""
    paths = ssl.get_default_verify_paths()
    bundle = paths.cafile or paths.openssl_cafile
    return Path(os.environ.get('PIP_CERT') or bundle).read_bytes()


def pip_settings() -> str:
    """Return a pip.conf for containers: where this machine's pip finds packages, and whom it trusts."""
    command = [sys.executable, '-m', 'pip', 'config', 'list']
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {name: literal_eval(value) for name, value in (line.split('=', 1) for line in listed.splitlines())}
    places = [f'{place}.{name}' for name in INDEX_SETTINGS for place in ('global', 'install', ':env:')]
    lines = [f'{place.rpartition(".")[2]} = {settings[place]}' for place in places if place in settings]
    return '\n'.join(['[global]', 'cert = /etc/ssl/certs/ca-certificates.crt', *lines, ''])
