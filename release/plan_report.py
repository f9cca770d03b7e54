"""The numbers of a Terraform plan, as GitLab shows them in a merge request.

It reads the output of `terraform show -json` and prints the report that GitLab's artifact `terraform` has.
https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform
"""

from collections import Counter
from collections.abc import Mapping
import json
import sys
from typing import Any

ACTIONS = ('create', 'update', 'delete')


def report_of(plan: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of each action; a replacement is a deletion and a creation."""
    changes = [change['change']['actions'] for change in plan.get('resource_changes', [])]
    counted = Counter(action for actions in changes for action in actions)
    return {action: counted[action] for action in ACTIONS}


if __name__ == '__main__':
    json.dump(report_of(json.load(sys.stdin)), sys.stdout)
