"""The decision of policies about one action on one resource.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from rehearsal.api.permissions.conditions import Context, filled, holds, listed, matches

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """An action on a resource, and the context of its request."""

    action: str
    resource: str = '*'
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """A policy with its name."""

    name: str
    document: Document


@dataclass(frozen=True)
class Policies:
    """The policies of a caller. A boundary and the policies of a session allow nothing; they limit the others."""

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: Policy | None = None

    @property
    def limits(self) -> list[tuple[str, Policy]]:
        """The policies that limit, with their kinds as AWS's messages name them."""
        named = (('permissions boundary', self.boundary), ('session policy', self.session))
        return [(kind, policy) for kind, policy in named if policy]


class Outcome(Enum):
    """The outcome of a decision."""

    ALLOWED = 'allowed'
    DENIED = 'explicitly denied'
    NOT_ALLOWED = 'not allowed'


@dataclass(frozen=True)
class Decision:
    """A decision: its outcome, the kind of policy that decided, and the statement, if there is one."""

    outcome: Outcome
    kind: str = 'identity-based policy'
    policy: str = ''
    statement: str = ''

    @property
    def is_allowed(self) -> bool:
        """Whether the call may be performed."""
        return self.outcome is Outcome.ALLOWED

    def reason(self, action: str) -> str:
        """Return the end of AWS's sentence about a refusal.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
        """
        if self.outcome is Outcome.DENIED:
            return f'with an explicit deny in {"an" if self.kind[0] in "aeiou" else "a"} {self.kind}'
        return f'because no {self.kind} allows the {action} action'


def decide(policies: Policies, question: Question) -> Decision:
    """Return the decision: a denial wins, then the identity's policies and each limit must allow the action."""
    own = 'identity-based policy'
    kinds = [*((own, policy) for policy in policies.identity), *policies.limits]
    for kind, policy in kinds:
        for name, _ in matching(policy, 'Deny', question):
            return Decision(Outcome.DENIED, kind, policy.name, name)
    allowing = next(((policy.name, name) for policy in policies.identity
                     for name, _ in matching(policy, 'Allow', question)), None)
    if not allowing:
        return Decision(Outcome.NOT_ALLOWED)
    for kind, policy in policies.limits:
        if not any(matching(policy, 'Allow', question)):
            return Decision(Outcome.NOT_ALLOWED, kind, policy.name)
    return Decision(Outcome.ALLOWED, own, *allowing)


def matching(policy: Policy, effect: str, question: Question) -> Iterator[tuple[str, Document]]:
    """Yield the statements of a policy with an effect that match a question, by their names."""
    for name, statement in statements(policy.document):
        if statement['Effect'] == effect and applies(statement, question):
            yield name, statement


def statements(document: Document) -> list[tuple[str, Document]]:
    """Return the statements of a document with their names: the Sid, or the number."""
    return [(str(statement.get('Sid') or number), statement)
            for number, statement in enumerate(listed(document.get('Statement', [])))]


def applies(statement: Document, question: Question) -> bool:
    """Return whether a statement is about a question."""
    names_action = covers(statement, 'Action', [question.action.lower()], question.context, is_lower=True)
    if not names_action or not covers(statement, 'Resource', [question.resource], question.context):
        return False
    return holds(statement.get('Condition', {}), question.context)


def covers(statement: Document, element: str, texts: Sequence[str], context: Context, is_lower: bool = False) -> bool:
    """Return whether an element of a statement, or its negation, covers one of some texts.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notaction.html
    """
    def found(patterns: Iterable[Any]) -> bool:
        filled_in = [filled(str(pattern), context) for pattern in patterns]
        return any(matches(pattern.lower() if is_lower else pattern, text) for pattern in filled_in for text in texts)

    if element in statement:
        return found(listed(statement[element]))
    if f'Not{element}' in statement:
        return not found(listed(statement[f'Not{element}']))
    return False
