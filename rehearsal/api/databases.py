"""Databases of RDS and their parameter groups, where moto drops what a client sends."""

import secrets
import string
from typing import Any

from moto.rds.models import DBInstance, DBParameterGroup

from rehearsal.api.patching import wrapping

# What moto does not keep of a database, by the argument of its creation and the attribute that its answer looks for.
KEPT = {'engine_lifecycle_support': 'engine_lifecycle_support',
        'enable_performance_insights': 'performance_insights_enabled',
        'performance_insights_retention_period': 'performance_insights_retention_period',
        'performance_insights_kms_key_id': 'performance_insights_kms_key_id'}
ID_CHARACTERS, ID_LENGTH = string.ascii_uppercase + string.digits, 26


def install() -> None:
    """Keep what is dropped, and give each database an id of its own."""
    @wrapping(DBInstance, '__init__')
    def create(original: Any, database: Any, *arguments: Any, **options: Any) -> None:
        original(database, *arguments, **options)
        for name, attribute in KEPT.items():
            if options.get(name) is not None:
                setattr(database, attribute, options[name])
        # IAM policies name it, so two databases must not share it.
        database.dbi_resource_id = f'db-{"".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))}'

    @wrapping(DBParameterGroup, 'update_parameters')
    def update_parameters(original: Any, group: Any, parameters: Any) -> None:
        # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Parameter.html: what a client set is its own.
        original(group, [{**parameter, 'Source': 'user', 'IsModifiable': True} for parameter in parameters])
