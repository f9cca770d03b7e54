"""Create visitors and days, and the triggers that keep days exact.

The model, and why it costs the same at any number of visitors: docs/decisions/0001-count-by-latest-day.md.
"""

from alembic import op

revision = '4f0c2b7d9a16'
down_revision = 'e75588bf2531'

# Both rows in one statement and the older day first: all connections lock in one order, so no deadlock arises.
# The shard spreads the rows that every first visit of a day changes over 16 connections.
POSTGRESQL = (
    """
    CREATE TABLE visitors (
        id       uuid   PRIMARY KEY,
        visits   bigint NOT NULL DEFAULT 1,
        last_day date   NOT NULL
    ) WITH (fillfactor = 90)
    """,
    """
    CREATE TABLE days (
        day       date     NOT NULL,
        shard     smallint NOT NULL,
        visitors  integer  NOT NULL DEFAULT 0,
        newcomers integer  NOT NULL DEFAULT 0,
        latest    bigint   NOT NULL DEFAULT 0,
        PRIMARY KEY (day, shard)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE FUNCTION count_visitor() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        previous date := '0001-01-01';
        fresh integer := 1;
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            previous := OLD.last_day;
            fresh := 0;
        END IF;
        INSERT INTO days AS d (day, shard, visitors, newcomers, latest)
        VALUES (previous, pg_backend_pid() % 16, 0, 0, -1),
               (NEW.last_day, pg_backend_pid() % 16, 1, fresh, 1)
        ON CONFLICT (day, shard) DO UPDATE
        SET visitors = d.visitors + excluded.visitors,
            newcomers = d.newcomers + excluded.newcomers,
            latest = d.latest + excluded.latest;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER visitor_is_new AFTER INSERT ON visitors
    FOR EACH ROW EXECUTE FUNCTION count_visitor()
    """,
    """
    CREATE TRIGGER visitor_is_back AFTER UPDATE OF last_day ON visitors
    FOR EACH ROW WHEN (OLD.last_day < NEW.last_day) EXECUTE FUNCTION count_visitor()
    """,
)

SQLITE = (
    """
    CREATE TABLE visitors (
        id       BLOB    NOT NULL PRIMARY KEY,
        visits   INTEGER NOT NULL DEFAULT 1,
        last_day TEXT    NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE days (
        day       TEXT     NOT NULL,
        shard     SMALLINT NOT NULL,
        visitors  INTEGER  NOT NULL DEFAULT 0,
        newcomers INTEGER  NOT NULL DEFAULT 0,
        latest    INTEGER  NOT NULL DEFAULT 0,
        PRIMARY KEY (day, shard)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER visitor_is_new AFTER INSERT ON visitors
    BEGIN
        INSERT INTO days (day, shard, visitors, newcomers, latest)
        VALUES ('0001-01-01', 0, 0, 0, -1), (NEW.last_day, 0, 1, 1, 1)
        ON CONFLICT (day, shard) DO UPDATE
        SET visitors = visitors + excluded.visitors,
            newcomers = newcomers + excluded.newcomers,
            latest = latest + excluded.latest;
    END
    """,
    """
    CREATE TRIGGER visitor_is_back AFTER UPDATE OF last_day ON visitors
    WHEN OLD.last_day < NEW.last_day
    BEGIN
        INSERT INTO days (day, shard, visitors, newcomers, latest)
        VALUES (OLD.last_day, 0, 0, 0, -1), (NEW.last_day, 0, 1, 0, 1)
        ON CONFLICT (day, shard) DO UPDATE
        SET visitors = visitors + excluded.visitors,
            newcomers = newcomers + excluded.newcomers,
            latest = latest + excluded.latest;
    END
    """,
)


def upgrade() -> None:
    for statement in SQLITE if op.get_context().dialect.name == 'sqlite' else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    op.execute('DROP TABLE visitors')
    op.execute('DROP TABLE days')
    if op.get_context().dialect.name == 'postgresql':
        op.execute('DROP FUNCTION count_visitor()')
