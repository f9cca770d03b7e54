"""The files of this instance: their paths, and the content of user data and image.json."""

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
    """The image in this AMI."""

    name: str
    image_id: str
    version: str


@dataclass(frozen=True)
class Machine:
    """An instance, as the root folder of its file system; a file is read when its content is first used."""

    root: Path = Path('/')

    @property
    def environment(self) -> Path:
        """The file that the user data writes."""
        return self.root / 'etc/visitors/instance.env'

    @property
    def image_file(self) -> Path:
        """The file with the identity of the image, which the bake writes."""
        return self.root / 'etc/visitors/image.json'

    @property
    def authorities(self) -> Path:
        """The file with the authorities of the database's certificate, by default those of RDS."""
        return self.root / 'etc/visitors/database-ca.pem'

    @property
    def run(self) -> Path:
        """The folder in memory for all files of this boot."""
        return self.root / 'run/visitors'

    @property
    def boot_record(self) -> Path:
        """The file with the phases of this boot."""
        return self.run / 'boot.json'

    @property
    def served(self) -> Path:
        """The file that exists after the step ready has succeeded."""
        return self.run / 'ready'

    @property
    def password_source(self) -> Path:
        """The file with the source of the application's database password, if it needs one."""
        return self.run / 'password.json'

    @property
    def requests(self) -> Path:
        """The folder of the socket on which the application requests a new password."""
        return self.run / 'requests'

    @property
    def purge_settings(self) -> Path:
        """The file with the number of days after which visitors are forgotten, if they are."""
        return self.run / 'purge.json'

    @property
    def data(self) -> Path:
        """The folder of the embedded database of a self-test."""
        return self.run / 'data'

    @property
    def cursor(self) -> Path:
        """The file with the cursor of the last journal entry that was sent; on disk."""
        return self.root / 'var/lib/visitors/logs.cursor'

    @property
    def answered(self) -> Path:
        """The file with the id of the instance that has completed its launch hook; on disk."""
        return self.root / 'var/lib/visitors/answered'

    def secrets(self, role: str) -> Path:
        """Return the folder of the secrets of one role: `application` or `migration`."""
        return self.run / 'secrets' / role

    def variables(self, role: str) -> Path:
        """Return the file with the environment of the containers of one role."""
        return self.run / f'{role}.env'

    @cached_property
    def user_data(self) -> UserData:
        """The settings of the user data."""
        try:
            text = self.environment.read_text(encoding='utf-8')
        except OSError as error:
            raise StepFailed(f'{self.environment}: {error.strerror}; the user data writes it') from None
        return UserData.from_text(text)

    @property
    def legible_user_data(self) -> UserData:
        """The legible part of the user data, unchecked."""
        try:
            return UserData.legible(self.environment.read_text(encoding='utf-8', errors='replace'))
        except OSError:
            return UserData()

    @cached_property
    def image(self) -> Image:
        """The image that the bake has put into this AMI."""
        path = self.image_file
        try:
            fields = json.loads(path.read_text(encoding='utf-8'))
            image = Image(str(fields['image']), str(fields['id']), str(fields['version']))
        except OSError as error:
            raise StepFailed(f'{path}: {error.strerror}; the bake writes it') from None
        except (ValueError, KeyError, TypeError) as error:
            raise StepFailed(f'{path} must hold image, id and version as JSON: {error!r}') from None
        if not IMAGE_ID.fullmatch(image.image_id):
            raise StepFailed(f'{path}: {image.image_id!r} is not the id of an image, sha256:... with 64 digits')
        return image
