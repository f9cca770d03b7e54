"""How moto is extended from outside: classes of methods that take the place of those of moto's own classes."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
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


def install(extensions: Iterable[type[Extension]], parts: Parts) -> Callable[[], None]:
    """Extend moto's classes, give them the parts of this rehearsal, and return a function that undoes both."""
    undo = ExitStack()
    for extension in extensions:
        owner = extension.extends
        replace(owner, 'rehearsal', parts, undo)
        for name, member in vars(extension).items():
            if isfunction(member) or isinstance(member, property):
                original = getattr_static(owner, name, None)
                if original:
                    replace(owner, f'moto_{name}', original, undo)
                replace(owner, name, member, undo)
    return undo.close


def replace(owner: Any, name: str, member: Any, undo: ExitStack) -> None:
    """Set a member of a class or a module until `undo` closes."""
    if name in vars(owner):
        undo.callback(setattr, owner, name, vars(owner)[name])
    else:
        undo.callback(delattr, owner, name)
    setattr(owner, name, member)
