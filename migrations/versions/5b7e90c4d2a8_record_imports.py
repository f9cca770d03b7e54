"""Record the day of an import beside each imported visitor, and let the import count its own visitors.

The replaced application recorded no days, so the retention of its visitors begins with the import.
"""

from alembic import op
import sqlalchemy as sa

revision = '5b7e90c4d2a8'
down_revision = 'a81d3c52e7f4'

# The import adds to buckets of its own, in the statement that inserts: visitors never wait for a row that it locks.
COUNTED_BY_TRIGGER = """
    CREATE OR REPLACE TRIGGER visitor_is_new AFTER INSERT ON visitors
    FOR EACH ROW {condition} EXECUTE FUNCTION count_visitor()
    """


def upgrade() -> None:
    op.add_column('visitors', sa.Column('imported_on', sa.Date().with_variant(sa.Text(), 'sqlite'), nullable=True))
    if op.get_context().dialect.name == 'postgresql':
        op.execute(COUNTED_BY_TRIGGER.format(condition='WHEN (NEW.imported_on IS NULL)'))


def downgrade() -> None:
    if op.get_context().dialect.name == 'postgresql':
        op.execute(COUNTED_BY_TRIGGER.format(condition=''))
    op.execute('ALTER TABLE visitors DROP COLUMN imported_on')
