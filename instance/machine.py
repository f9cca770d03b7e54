"""What this machine has been told, and where its files are."""

from dataclasses import dataclass
from functools import cached_property
import json
from pathlib import Path
import re

from instance.errors import StepFailed
from instance.user_data import UserData

IMAGE_ID = re.compile(r'sha256:[0-9a-f]{64}')


@dataclass(frozen=True)
class Image:
    """The application image that this machine was made with."""

    name: str
    image_id: str
    version: str


@dataclass(frozen=True)
class Machine:
    """A machine by the folder that its file system begins at; what is read there is read when it is asked for."""

    root: Path = Path('/')

    @property
    def environment(self) -> Path:
        """The file that the user data writes."""
        return self.root / 'etc/visitors/instance.env'

    @property
    def authorities(self) -> Path:
        """The file with the authorities of the database's certificate, if the AMI was baked with one."""
        return self.root / 'etc/visitors/database-ca.pem'

    @property
    def run(self) -> Path:
        """The folder in memory of all that is known of this boot."""
        return self.root / 'run/visitors'

    @property
    def boot_record(self) -> Path:
        """The file with the phases of this boot."""
        return self.run / 'boot.json'

    @property
    def served(self) -> Path:
        """The file that is there once this machine has been ready."""
        return self.run / 'ready'

    @property
    def password_source(self) -> Path:
        """The file that says where the application's password of the database comes from, if it needs one."""
        return self.run / 'password.json'

    @property
    def requests(self) -> Path:
        """The folder of the socket on which the application asks for its password anew."""
        return self.run / 'requests'

    @property
    def purge_settings(self) -> Path:
        """The file that says how long visitors are kept, if they are forgotten at all."""
        return self.run / 'purge.json'

    @property
    def data(self) -> Path:
        """The folder of the embedded database of a self-test."""
        return self.run / 'data'

    @property
    def cursor(self) -> Path:
        """The file that says up to where the journal was sent, kept on disk."""
        return self.root / 'var/lib/visitors/logs.cursor'

    @property
    def answered(self) -> Path:
        """The file with the id of the instance that has told its group to go on, kept on disk."""
        return self.root / 'var/lib/visitors/answered'

    def secrets(self, role: str) -> Path:
        """Return the folder of what only one kind of container may read: `application` or `migration`."""
        return self.run / 'secrets' / role

    def variables(self, role: str) -> Path:
        """Return the file with the environment of one kind of container."""
        return self.run / f'{role}.env'

    @cached_property
    def user_data(self) -> UserData:
        """What the user data has told this machine."""
        try:
            text = self.environment.read_text(encoding='utf-8')
        except OSError as error:
            raise StepFailed(f'{self.environment}: {error.strerror}; the user data writes it') from None
        return UserData.from_text(text)

    @property
    def legible_user_data(self) -> UserData:
        """As much as can be read of what the user data has told this machine, whatever is wrong with it."""
        try:
            return UserData.legible(self.environment.read_text(encoding='utf-8', errors='replace'))
        except OSError:
            return UserData()

    @cached_property
    def image(self) -> Image:
        """The application image that the build of this machine's image has put here."""
        path = self.root / 'etc/visitors/image.json'
        try:
            known = json.loads(path.read_text(encoding='utf-8'))
            image = Image(str(known['image']), str(known['id']), str(known['version']))
        except OSError as error:
            raise StepFailed(f'{path}: {error.strerror}; the bake writes it') from None
        except (ValueError, KeyError, TypeError) as error:
            raise StepFailed(f'{path} must hold image, id and version as JSON: {error!r}') from None
        if not IMAGE_ID.fullmatch(image.image_id):
            raise StepFailed(f'{path}: {image.image_id!r} is not the id of an image, sha256:... with 64 digits')
        return image
