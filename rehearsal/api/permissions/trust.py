"""The trust policies of roles: who may assume a role.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
"""

from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
import json
from typing import Any

from rehearsal.api.permissions.conditions import Context, holds, listed, matches
from rehearsal.api.permissions.policies import Decision, Document, Outcome, statements

ASSUME, BY_WEB_IDENTITY = 'sts:AssumeRole', 'sts:AssumeRoleWithWebIdentity'


class InvalidToken(ValueError):
    """The error of a text that is no web identity token."""


def trusts(document: Document, action: str, principals: Mapping[str, Iterable[str]], context: Context) -> Decision:
    """Return the decision of a trust policy about an action of a caller.

    `principals` holds the names of the caller by kind, such as AWS, Service and Federated.
    """
    found = {effect: [name for name, statement in statements(document) if statement['Effect'] == effect
                      if names(statement.get('Principal', {}), principals)
                      if any(matches(str(each).lower(), action.lower()) for each in listed(statement['Action']))
                      if holds(statement.get('Condition', {}), context)] for effect in ('Deny', 'Allow')}
    kind = 'resource-based policy'
    if found['Deny']:
        return Decision(Outcome.DENIED, kind, 'trust policy', found['Deny'][0])
    if found['Allow']:
        return Decision(Outcome.ALLOWED, kind, 'trust policy', found['Allow'][0])
    return Decision(Outcome.NOT_ALLOWED, kind, 'trust policy')


def names(principal: Any, principals: Mapping[str, Iterable[str]]) -> bool:
    """Return whether the Principal of a statement names one of some callers."""
    if principal == '*':
        return True
    return any(str(each) in ('*', *principals.get(kind, ())) for kind, value in dict(principal).items()
               for each in listed(value))


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a web identity token, whose signature is not checked: only its issuer has the keys."""
    try:
        body = token.split('.')[1]
        claims = json.loads(urlsafe_b64decode(body + '=' * (-len(body) % 4)))
        return {'iss': '', **dict(claims)}
    except (IndexError, TypeError, ValueError) as error:
        raise InvalidToken('The ID Token provided is not a valid JWT.') from error


def context_of(issuer: str, claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the claims that a condition can read, by their keys.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
    """
    return {f'{issuer}:{claim}'.lower(): tuple(str(value) for value in listed(claims[claim]))
            for claim in ('aud', 'sub', 'amr') if claim in claims}
