"""Create the table that holds the time zone in which this database counts its days.

The first counted visit fixes it; a database in which an older release counted is in UTC without a row.
"""

from alembic import op
import sqlalchemy as sa

revision = 'c6b1f04d2e93'
down_revision = '5b7e90c4d2a8'


def upgrade() -> None:
    op.create_table(
        'calendar',
        sa.Column('id', sa.SmallInteger(), sa.CheckConstraint('id = 1', name='calendar_has_one_row'),
                  primary_key=True, autoincrement=False),
        sa.Column('time_zone', sa.Text(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table('calendar')
