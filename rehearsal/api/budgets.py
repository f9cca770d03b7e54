"""Budgets: their subscribers, which moto keeps without showing them, and their tags, which it ignores.

https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_DescribeSubscribersForNotification.html
"""

import json
from typing import Any

from moto.budgets.exceptions import NotFoundException
from moto.budgets.responses import BudgetsResponse

from rehearsal.api.patching import Extension


class BudgetActions(Extension, extends=BudgetsResponse):
    """Actions on budgets."""

    def describe_subscribers_for_notification(self) -> str:
        """Show the subscribers of a notification."""
        name, description = self._get_param('BudgetName'), self._get_param('Notification')
        budget = self.backend.budgets[self._get_param('AccountId')].get(name)
        for notification in budget.notifications if budget else []:
            if all(notification.details.get(key) == value for key, value in description.items()):
                return json.dumps({'Subscribers': notification.subscribers})
        raise NotFoundException(f'Unable to get subscribers: {name} has no such notification.')

    def create_budget(self) -> str:
        """Make a budget, and keep its tags."""
        answer = str(self.moto_create_budget())
        name = self._get_param('Budget')['BudgetName']
        arn = f'arn:aws:budgets::{self._get_param("AccountId")}:budget/{name}'
        tags_of(self.backend)[arn] = self._get_param('ResourceTags') or []
        return answer

    def list_tags_for_resource(self) -> str:
        """Show the tags of a budget."""
        return json.dumps({'ResourceTags': tags_of(self.backend).get(self._get_param('ResourceARN'), [])})

    def tag_resource(self) -> str:
        """Add tags to a budget, or change them."""
        arn, added = self._get_param('ResourceARN'), self._get_param('ResourceTags')
        names, tags = [tag['Key'] for tag in added], tags_of(self.backend)
        tags[arn] = [*(tag for tag in tags.get(arn, []) if tag['Key'] not in names), *added]
        return json.dumps({})

    def untag_resource(self) -> str:
        """Remove tags from a budget."""
        arn, names, tags = self._get_param('ResourceARN'), self._get_param('ResourceTagKeys'), tags_of(self.backend)
        tags[arn] = [tag for tag in tags.get(arn, []) if tag['Key'] not in names]
        return json.dumps({})


def tags_of(backend: Any) -> dict[str, list[dict[str, str]]]:
    """Return the tags of each budget by its ARN; moto's reset forgets them with the backend's other attributes."""
    tags: dict[str, list[dict[str, str]]] = backend.__dict__.setdefault('rehearsal_tags', {})
    return tags
