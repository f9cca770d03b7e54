"""Budgets: who is warned, and tags, which moto keeps or leaves out without showing them.

https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_DescribeSubscribersForNotification.html
"""

import json
from typing import Any

from moto.budgets.exceptions import NotFoundException
from moto.budgets.responses import BudgetsResponse

from rehearsal.api.patching import adding, wrapping

# Of each budget, by its ARN.
TAGS: dict[str, list[dict[str, str]]] = {}


def install() -> None:
    """Add the actions that show them."""
    @adding(BudgetsResponse)
    def describe_subscribers_for_notification(response: Any) -> str:
        name, asked = response._get_param('BudgetName'), response._get_param('Notification')
        budget = response.backend.budgets[response._get_param('AccountId')].get(name)
        for notification in budget.notifications if budget else []:
            if all(notification.details.get(key) == value for key, value in asked.items()):
                return json.dumps({'Subscribers': notification.subscribers})
        raise NotFoundException(f'Unable to get subscribers: {name} has no such notification.')

    @wrapping(BudgetsResponse, 'create_budget')
    def create_budget(original: Any, response: Any) -> str:
        answer = str(original(response))
        name = response._get_param('Budget')['BudgetName']
        TAGS[f'arn:aws:budgets::{response._get_param("AccountId")}:budget/{name}'] = (
            response._get_param('ResourceTags') or [])
        return answer

    @adding(BudgetsResponse)
    def list_tags_for_resource(response: Any) -> str:
        return json.dumps({'ResourceTags': TAGS.get(response._get_param('ResourceARN'), [])})

    @adding(BudgetsResponse)
    def tag_resource(response: Any) -> str:
        arn, added = response._get_param('ResourceARN'), response._get_param('ResourceTags')
        names = [tag['Key'] for tag in added]
        TAGS[arn] = [*(tag for tag in TAGS.get(arn, []) if tag['Key'] not in names), *added]
        return json.dumps({})

    @adding(BudgetsResponse)
    def untag_resource(response: Any) -> str:
        arn, names = response._get_param('ResourceARN'), response._get_param('ResourceTagKeys')
        TAGS[arn] = [tag for tag in TAGS.get(arn, []) if tag['Key'] not in names]
        return json.dumps({})
