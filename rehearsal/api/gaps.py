"""Gaps: a call of a missing action, or one that moto fails to perform, is refused at once and noted.

moto answers 500 instead, which AWS's own libraries retry for minutes before they report it.
"""

from collections.abc import Callable, Iterable
import logging
from typing import Any

from rehearsal.calls import read_call
from rehearsal.listeners import Application

logger = logging.getLogger(__name__)


class Gaps:
    """An API whose missing and failed actions are refused and noted in `calls`, each with the difference."""

    def __init__(self, application: Application) -> None:
        """Answer by this application where it can."""
        self._application = application
        self.calls: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        call = read_call(environ)
        try:
            return self._application(environ, start_response)
        except NotImplementedError as error:  # an action that moto lacks, or NotModelled
            gap, code = call.name, 'UnknownOperationException' if call.is_json else 'InvalidAction'
            message = f'{call.name} is no part of this rehearsal: {error}'
        except Exception as error:  # moto has the action, but cannot perform this call
            logger.exception('moto failed')
            gap, code, message = f'{call.name}: moto failed: {error!r}', 'InternalFailure', f'moto failed: {error!r}'
        self.calls.append(gap)
        logger.warning('gap: %s: %s', gap, message)
        return call.error(400, code, message)(environ, start_response)
