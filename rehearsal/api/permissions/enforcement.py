"""The enforcement of permissions: an API that performs only calls that IAM allows."""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
import logging
from typing import Any

from werkzeug.wrappers import Response

from rehearsal.api.permissions.conditions import UnsupportedCondition
from rehearsal.api.permissions.policies import decide, Decision, Question
from rehearsal.api.permissions.principals import document, iam, InvalidKey, Principal, principal_of
from rehearsal.api.permissions.requests import read_request, Request
from rehearsal.api.permissions.resources import questions
from rehearsal.api.permissions.trust import (
    ASSUME, BY_WEB_IDENTITY, claims_of, context_of, InvalidToken, trusts)
from rehearsal.calls import Call, read_call
from rehearsal.listeners import Application

logger = logging.getLogger(__name__)

KEPT = 100_000
# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html: no permission is needed.
FREE = ('sts:GetCallerIdentity',)


@dataclass(frozen=True)
class Use:
    """A decision about one question of a caller."""

    principal: str
    question: Question
    decision: Decision


class Refused(Exception):
    """A refusal: status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the parts of the answer."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Permissions:
    """An API that performs the calls that IAM allows, and lists its decisions in `uses`."""

    def __init__(self, application: Application, lock: AbstractContextManager[Any]) -> None:
        """Stand before this application; the lock is that of moto's records."""
        self._application = application
        self._lock = lock
        self.uses: deque[Use] = deque(maxlen=KEPT)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        call = read_call(environ)
        try:
            with self._lock:
                self.check(read_request(call, environ))
        except Refused as refusal:
            logger.info('%s: %s', call.name, refusal.message)
            return answer(call, refusal)(environ, start_response)
        return self._application(environ, start_response)

    def check(self, request: Request | None) -> None:
        """Refuse a request that the policies of its caller do not allow."""
        if request is None:
            return
        if request.service == 'sts' and request.operation == 'AssumeRoleWithWebIdentity':
            check_web_identity(request)
            return
        try:
            principal = principal_of(request.key, request.token)
        except InvalidKey as error:
            raise invalid_key(request.service, error) from error
        if principal:
            for question in questions(request):
                self._check(principal, question)
        if request.service == 'sts' and request.operation == 'AssumeRole':
            check_trust(request, principal)

    def allows(self, key: str, token: str, action: str, resource: str) -> bool:
        """Return whether the caller with a key may perform an action that is no call, such as rds-db:connect."""
        with self._lock:
            try:
                principal = principal_of(key, token)
            except InvalidKey:
                return False
            return principal is None or self._decide(principal, Question(action, resource)).is_allowed

    def _decide(self, principal: Principal, question: Question) -> Decision:
        question = replace(question, context={**question.context, **principal.context})
        try:
            decision = decide(principal.policies, question)
        except UnsupportedCondition as error:
            raise Refused(400, 'UnsupportedCondition', f'{error} is no part of this rehearsal') from error
        self.uses.append(Use(principal.name, question, decision))
        return decision

    def _check(self, principal: Principal, question: Question) -> None:
        if question.action in FREE:
            return
        decision = self._decide(principal, question)
        if not decision.is_allowed:
            raise Refused(403, denied_code(question.action), sentence(principal, question, decision))


def sentence(principal: Principal, question: Question, decision: Decision) -> str:
    """Return AWS's sentence about a refusal.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    """
    start = 'You are not authorized to perform this operation. ' if question.action.startswith('ec2:') else ''
    return (f'{start}User: {principal.arn} is not authorized to perform: {question.action} on resource: '
            f'{question.resource} {decision.reason(question.action)}')


def denied_code(action: str) -> str:
    """Return AWS's code of a refusal.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    """
    return 'UnauthorizedOperation' if action.startswith('ec2:') else 'AccessDenied'


def invalid_key(service: str, error: InvalidKey) -> Refused:
    """Return the refusal of a key that is unknown or expired."""
    if error.has_expired:
        return Refused(400 if service == 's3' else 403, 'ExpiredToken', str(error))
    if service == 'ec2':
        return Refused(401, 'AuthFailure', 'AWS was not able to validate the provided access credentials')
    code = 'InvalidAccessKeyId' if service == 's3' else 'InvalidClientTokenId'
    return Refused(403, code, str(error))


# The names of these codes in services that speak JSON.
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html
IN_JSON = {'AccessDenied': 'AccessDeniedException', 'ExpiredToken': 'ExpiredTokenException',
           'InvalidClientTokenId': 'UnrecognizedClientException'}


def answer(call: Call, refusal: Refused) -> Response:
    """Return a refusal in the protocol of a call."""
    if call.is_json:
        return call.error(400, IN_JSON.get(refusal.code, refusal.code), refusal.message)
    return call.error(refusal.status, refusal.code, refusal.message)


def role_by_arn(arn: str) -> Any:
    """Return moto's record of a role; None if it does not exist."""
    return next((role for role in iam().roles.values() if role.arn == arn), None)


def check_trust(request: Request, principal: Principal | None) -> None:
    """Refuse to let a caller assume a role that does not trust it.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    arn = str(request.parameters.get('RoleArn'))
    role = role_by_arn(arn)
    names = principal.names if principal else (f'arn:aws:iam::{arn.split(":")[4]}:root', arn.split(':')[4])
    context = dict(principal.context) if principal else {}
    if 'ExternalId' in request.parameters:
        context['sts:externalid'] = (str(request.parameters['ExternalId']),)
    trust = document(role.assume_role_policy_document) if role else {}
    decision = trusts(trust, ASSUME, {'AWS': names}, context)
    if not decision.is_allowed:
        caller = principal.arn if principal else names[0]
        raise Refused(403, 'AccessDenied', f'User: {caller} is not authorized to perform: {ASSUME} on resource: {arn}')


def check_web_identity(request: Request) -> None:
    """Refuse a token of an unknown issuer, for another audience, or that a role does not trust.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    try:
        claims = claims_of(str(request.parameters.get('WebIdentityToken', '')))
    except InvalidToken as error:
        raise Refused(400, 'InvalidIdentityToken', str(error)) from error
    issuer = str(claims['iss']).removeprefix('https://').rstrip('/')
    providers = {provider.url.rstrip('/'): provider for provider in iam().open_id_providers.values()}
    if issuer not in providers:
        raise Refused(400, 'InvalidIdentityToken', 'No OpenIDConnect provider found in your account for '
                      f'{claims["iss"]}')
    audiences = context_of(issuer, claims).get(f'{issuer}:aud'.lower(), ())
    if not set(audiences) & set(providers[issuer].client_id_list):
        raise Refused(400, 'InvalidIdentityToken', 'Incorrect token audience')
    expires = claims.get('exp')
    if expires is not None and float(expires) < datetime.now(timezone.utc).timestamp():
        raise Refused(400, 'ExpiredTokenException', 'Token expired: current date/time must be before the expiration '
                      'date/time')
    role = role_by_arn(str(request.parameters.get('RoleArn')))
    trust = document(role.assume_role_policy_document) if role else {}
    principals = {'Federated': (providers[issuer].arn, issuer)}
    if not trusts(trust, BY_WEB_IDENTITY, principals, context_of(issuer, claims)).is_allowed:
        raise Refused(403, 'AccessDenied', f'Not authorized to perform {BY_WEB_IDENTITY}')
