"""Create the table of the application that this one replaces.

A database of that application is at this revision already.
"""

from alembic import op
import sqlalchemy as sa

revision = 'e75588bf2531'
down_revision = None


def upgrade() -> None:
    op.create_table(
        'visitor',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('ip', sa.String(40), nullable=True),
        sa.Column('visits', sa.Integer(), nullable=True),
    )
    op.create_index('ix_visitor_ip', 'visitor', ['ip'], unique=True)


def downgrade() -> None:
    op.drop_index('ix_visitor_ip', 'visitor')
    op.drop_table('visitor')
