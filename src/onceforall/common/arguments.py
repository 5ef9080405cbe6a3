"""Functions that take an object of a class, or the fields of the class by their names."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")


def takes(kind: type[Any]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Let a function whose first parameter is an object of this class also take the class's fields by name.

    An unknown name raises a TypeError. The signature lists all fields.
    """

    def decorated(function: Callable[..., Result]) -> Callable[..., Result]:
        signature = inspect.signature(function)
        others = list(signature.parameters.values())[1:]
        names = {parameter.name for parameter in others}

        @wraps(function)
        def call(*given: Any, **named: Any) -> Result:
            rest = {name: named.pop(name) for name in names & named.keys()}
            options = given[0] if len(given) == 1 and not named and isinstance(given[0], kind) else kind(*given, **named)
            return function(options, **rest)

        parameters = sorted([*inspect.signature(kind).parameters.values(), *others], key=lambda parameter: parameter.kind)
        call.__dict__["__signature__"] = signature.replace(parameters=parameters)
        return call

    return decorated
