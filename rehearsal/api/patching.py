"""How moto is extended from outside: a method takes the place of one of its own, which it gets as first argument."""

from collections.abc import Callable
from functools import wraps
from typing import Any

Function = Callable[..., Any]


def wrapping(owner: type, name: str) -> Callable[[Function], Function]:
    """Return a decorator that puts a function into the place of a method; the method is the first argument."""
    original = getattr(owner, name)

    def install(function: Function) -> Function:
        @wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            return function(original, *arguments, **options)
        setattr(owner, name, wrapped)
        return wrapped
    return install


def adding(owner: type) -> Callable[[Function], Function]:
    """Return a decorator that makes a function a method of a class, under its own name."""
    def install(function: Function) -> Function:
        setattr(owner, function.__name__, function)
        return function
    return install
