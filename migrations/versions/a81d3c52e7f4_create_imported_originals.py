"""Create the table in which the import records the visits that it moved from the original table."""

from alembic import op
import sqlalchemy as sa

revision = 'a81d3c52e7f4'
down_revision = '4f0c2b7d9a16'


def upgrade() -> None:
    op.create_table(
        'imported_originals',
        sa.Column('id', sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column('visits', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    )


def downgrade() -> None:
    op.drop_table('imported_originals')
