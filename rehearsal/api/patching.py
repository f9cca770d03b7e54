"""How moto is extended from outside: classes of methods that take the place of those of moto's own classes."""

from collections.abc import Iterable
from inspect import getattr_static, isfunction
from typing import Any, ClassVar, TYPE_CHECKING

from rehearsal.api.parts import Parts


class Extension:
    """Methods and properties for one class of moto's.

    They become members of that class, whose other members they find on `self`. A member that they replace stays there
    under the name `moto_NAME`. `self.rehearsal` holds the parts of the running rehearsal.
    """

    extends: ClassVar[type]
    rehearsal: ClassVar[Parts]

    def __init_subclass__(cls, extends: type) -> None:
        """Note the class of moto's."""
        cls.extends = extends

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any:
            """Return a member of moto's class."""


def install(extensions: Iterable[type[Extension]], parts: Parts) -> None:
    """Extend moto's classes, each once in a process, and give all of them the parts of this rehearsal."""
    for extension in extensions:
        owner: Any = extension.extends
        for name, member in vars(extension).items():
            original = getattr_static(owner, name, None)
            if original is member or not (isfunction(member) or isinstance(member, property)):
                continue
            if original:
                setattr(owner, f'moto_{name}', original)
            setattr(owner, name, member)
        owner.rehearsal = parts
