"""Databases of RDS and their parameter groups, of whose attributes moto drops some."""

import secrets
import string
from typing import Any

from moto.rds.models import DBInstance, DBParameterGroup

from rehearsal.api.patching import Extension

# Attributes of a database that moto drops, by the argument of its creation and the name under which it shows them.
DROPPED = {'engine_lifecycle_support': 'engine_lifecycle_support',
           'enable_performance_insights': 'performance_insights_enabled',
           'performance_insights_retention_period': 'performance_insights_retention_period',
           'performance_insights_kms_key_id': 'performance_insights_kms_key_id'}
ID_CHARACTERS, ID_LENGTH = string.ascii_uppercase + string.digits, 26


class Databases(Extension, extends=DBInstance):
    """A database."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Keep the dropped attributes, and give the database an id of its own."""
        self.moto___init__(*arguments, **options)
        for name, attribute in DROPPED.items():
            if options.get(name) is not None:
                setattr(self, attribute, options[name])
        # IAM policies name it, so two databases must not share it.
        self.dbi_resource_id = f'db-{"".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))}'


class ParameterGroups(Extension, extends=DBParameterGroup):
    """A parameter group."""

    def update_parameters(self, parameters: Any) -> None:
        """Mark the parameters that a client sets as the client's own.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Parameter.html
        """
        self.moto_update_parameters([{**each, 'Source': 'user', 'IsModifiable': True} for each in parameters])
