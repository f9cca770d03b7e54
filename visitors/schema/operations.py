"""The operations of a revision that PostgreSQL allows in no transaction."""

from alembic import op
from sqlalchemy import text

from visitors.schema.errors import SchemaError
from visitors.schema.upgrade import UPGRADE

IS_VALID = text('SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(quote_ident(:name)))')
# A build waits for all older transactions. The limits of other statements would abort it each time and leave an
# invalid index, which no query uses and each write pays for.
PATIENCE = {'lock_timeout': '10min', 'statement_timeout': '0'}


def create_index(name: str, table: str, columns: list[str], unique: bool = False) -> None:
    """Make an index while the table is written to; it must be the only statement of its revision.

    It commits the revision's earlier statements. After an interruption the revision starts from its beginning: a
    complete index stays, an incomplete one is replaced.
    """
    context = op.get_context()
    if context.dialect.name != 'postgresql':
        op.create_index(name, table, columns, unique=unique)
        return

    upgrade = context.config.attributes.get(UPGRADE) if context.config else None
    if upgrade and upgrade.in_one_transaction:
        raise SchemaError(f'the index {name} cannot be made within one transaction for all revisions')
    with context.autocommit_block():
        _create_patiently(name, table, columns, unique)


def _create_patiently(name: str, table: str, columns: list[str], unique: bool) -> None:
    offline = op.get_context().as_sql
    valid = None if offline else _is_valid(name)
    if valid:
        return

    for setting, value in PATIENCE.items():
        op.execute(f"SET {setting} = '{value}'")
    try:
        if valid is not None:  # IF NOT EXISTS would keep it
            op.drop_index(name, table, postgresql_concurrently=True)
        op.create_index(name, table, columns, unique=unique, postgresql_concurrently=True, if_not_exists=offline)
        if not offline and not _is_valid(name):
            raise SchemaError(f'the index {name} was made and is not valid')
    finally:
        _reset_patience()


def _is_valid(name: str) -> bool | None:
    """Return whether an index is complete, or None if it does not exist."""
    valid: bool | None = op.get_bind().scalar(IS_VALID, {'name': name})
    return valid


def _reset_patience() -> None:
    for setting in PATIENCE:
        op.execute(f'RESET {setting}')
