"""Missing actions: a call of one is refused at once and noted.

moto answers 500 instead, which AWS's own libraries retry for minutes before they report it.
"""

from collections.abc import Callable, Iterable
import logging
from typing import Any

from rehearsal.calls import read_call
from rehearsal.listeners import Application

logger = logging.getLogger(__name__)


class Gaps:
    """An API whose missing actions are refused and noted in `calls`."""

    def __init__(self, application: Application) -> None:
        """Answer by this application where it can."""
        self._application = application
        self.calls: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        call = read_call(environ)
        try:
            return self._application(environ, start_response)
        except NotImplementedError as error:  # moto raises it for an action that it lacks
            reason = str(error)
        except Exception as error:  # an action that moto cannot perform is missing as well
            logger.exception('moto failed')
            reason = repr(error)
        self.calls.append(call.name)
        logger.warning('gap: %s: %s', call.name, reason)
        code = 'UnknownOperationException' if call.is_json else 'InvalidAction'
        refusal = call.error(400, code, f'{call.name} is no part of this rehearsal: {reason}')
        return refusal(environ, start_response)
