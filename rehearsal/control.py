"""The rehearsal's own paths beside the API: gaps, faults, calls, mail, requests to load balancers, as JSON."""

from collections.abc import Callable, Iterable
import json
from typing import Any

from werkzeug.wrappers import Request, Response

from rehearsal.api.deliveries import mail
from rehearsal.api.service import Api
from rehearsal.faults import Fault

Answer = Callable[[Request], Any]


class Control:
    """An application that answers for the rehearsal itself on its own paths, and by the API on all others."""

    def __init__(self, api: Api) -> None:
        """Stand before this API."""
        self._api = api
        self._paths: dict[tuple[str, str], Answer] = {
            ('GET', '/rehearsal/gaps'): lambda _request: api.gaps.calls,
            ('GET', '/rehearsal/mail'): lambda _request: mail(api.deliveries),
            ('GET', '/rehearsal/calls'): lambda _request: [
                {'service': call.service, 'operation': call.operation, 'text': call.text}
                for call in api.faults.calls],
            ('GET', '/rehearsal/requests'): lambda _request: api.requests,
            ('GET', '/rehearsal/faults'): lambda _request: {'refused': api.faults.refused},
            ('PUT', '/rehearsal/faults'): self._add_faults,
            ('DELETE', '/rehearsal/faults'): self._clear_faults}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        path = self._paths.get((environ['REQUEST_METHOD'], environ.get('PATH_INFO', '')))
        if not path:
            return self._api(environ, start_response)
        try:
            response = Response(json.dumps(path(Request(environ)), default=str), mimetype='application/json')
        except (TypeError, ValueError) as error:
            response = Response(f'{error}\n', 400, mimetype='text/plain')
        return response(environ, start_response)

    def _add_faults(self, request: Request) -> list[str]:
        faults = [Fault(**fault) for fault in json.loads(request.get_data())]
        self._api.faults.add(*faults)
        return [fault.effect for fault in faults]

    def _clear_faults(self, _request: Request) -> list[str]:
        self._api.faults.clear()
        return []
