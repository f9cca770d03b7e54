"""Append each move of visitors between days, and keep versions of the days, so that an open snapshot slows no visit.

The model: docs/decisions/0020-append-and-fold.md. A file keeps one version of its rows, so an embedded database stays.

Older releases go on with this schema. Both new tables inherit from days, so their sums over days hold each move once;
their triggers are replaced, and their inserts into days become moves.
"""

from alembic import op
import sqlalchemy as sa

revision = '8c2e5d7f1a40'
down_revision = 'c6b1f04d2e93'
only = 'postgresql'

# Running visits, imports and purges end first. A statement that reads days either ends before or begins after
# the change: between, it could see neither the old rows nor the new tables.
LOCK = ('LOCK TABLE visitors IN SHARE ROW EXCLUSIVE MODE', 'LOCK TABLE days IN ACCESS EXCLUSIVE MODE')
# Both tables hold few rows that live and many that were replaced, so vacuum looks at their number alone.
TABLES = (
    """
    CREATE TABLE day_versions (
        version bigint NOT NULL,
        PRIMARY KEY (day, version)
    ) INHERITS (days)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0)
    """,
    """
    CREATE TABLE day_moves (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
    ) INHERITS (days)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)
    """,
    """
    INSERT INTO day_versions (day, shard, visitors, newcomers, latest, version)
    SELECT day, 0, sum(visitors), sum(newcomers), sum(latest), 0 FROM ONLY days GROUP BY day
    """,
    'DELETE FROM ONLY days',
)
# The functions run with their owner's privileges, because the application's role may only read the new tables, and
# look up no name in a schema where that role could put a table of its own.
FUNCTIONS = (
    """
    CREATE OR REPLACE FUNCTION count_visitor() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO day_moves (day, shard, visitors, newcomers, latest)
        VALUES (OLD.last_day, 0, 0, 0, -1), (NEW.last_day, 0, 1, 0, 1);
        RETURN NULL;
    END
    $$
    """,
    # Once for a statement: a million rows of one statement are two moves.
    """
    CREATE FUNCTION count_newcomers() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM added) THEN
            RETURN NULL;
        END IF;
        INSERT INTO day_moves (day, shard, visitors, newcomers, latest)
        SELECT moved.day, 0, moved.visitors * came.number, moved.visitors * came.number, moved.latest * came.number
        FROM (SELECT last_day, count(*) AS number FROM added WHERE imported_on IS NULL GROUP BY last_day) AS came,
             LATERAL (VALUES (date '0001-01-01', 0, -1), (came.last_day, 1, 1)) AS moved (day, visitors, latest);
        RETURN NULL;
    END
    $$
    """,
    # Imports and purges insert into days, those of older releases with ON CONFLICT.
    """
    CREATE FUNCTION append_move() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO day_moves (day, shard, visitors, newcomers, latest)
        VALUES (NEW.day, NEW.shard, NEW.visitors, NEW.newcomers, NEW.latest);
        RETURN NULL;
    END
    $$
    """,
    # Moves draw numbers in order and commit in any order. A transaction draws a number while it holds a lock of the
    # table. So after the end of those that held the lock after the last number was read, no smaller number can come.
    """
    CREATE FUNCTION fold_moves() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET enable_seqscan = off SET jit = off AS $$
    DECLARE
        folded bigint;
        last bigint;
        writers text[];
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE 'a fold needs the isolation level read committed, because it waits for others between statements';
        END IF;
        IF NOT pg_try_advisory_xact_lock(hashtextextended('visitors/fold', 0)) THEN
            RETURN 0;
        END IF;
        folded := coalesce(
            (SELECT version FROM day_versions WHERE day = '0001-01-01' ORDER BY version DESC LIMIT 1), 0);
        last := (SELECT max(number) FROM (
            SELECT number FROM day_moves WHERE number > folded ORDER BY number LIMIT 20000) AS next);
        IF last IS NULL THEN
            RETURN 0;
        END IF;

        writers := ARRAY(
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND relation = 'day_moves'::regclass AND mode = 'RowExclusiveLock'
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND pid IS DISTINCT FROM pg_backend_pid());
        FOR wait IN 1..200 LOOP
            EXIT WHEN NOT EXISTS (SELECT FROM pg_locks WHERE virtualtransaction = ANY (writers)
                                  AND locktype = 'relation' AND relation = 'day_moves'::regclass);
            IF wait = 200 THEN
                RETURN 0;
            END IF;
            PERFORM pg_sleep(0.001);
        END LOOP;

        WITH gone AS (
            DELETE FROM day_moves WHERE number > folded AND number <= last
            RETURNING day, visitors, newcomers, latest
        ), moved AS (
            SELECT day, sum(visitors) AS visitors, sum(newcomers) AS newcomers, sum(latest) AS latest
            FROM (SELECT * FROM gone UNION ALL VALUES (date '0001-01-01', 0, 0, 0)) AS moves GROUP BY day
        ), added AS (
            SELECT moved.day, before.version, moved.visitors + coalesce(before.visitors, 0) AS visitors,
                   moved.newcomers + coalesce(before.newcomers, 0) AS newcomers,
                   moved.latest + coalesce(before.latest, 0) AS latest
            FROM moved LEFT JOIN LATERAL (
                SELECT * FROM day_versions WHERE day_versions.day = moved.day ORDER BY version DESC LIMIT 1
            ) AS before ON true
        ), replaced AS (
            DELETE FROM day_versions USING added
            WHERE day_versions.day = added.day AND day_versions.version = added.version
        )
        INSERT INTO day_versions (day, shard, visitors, newcomers, latest, version)
        SELECT day, 0, visitors, newcomers, latest, last FROM added;
        RETURN last - folded;
    END
    $$
    """,
)
TRIGGERS = (
    'DROP TRIGGER visitor_is_new ON visitors',
    """
    CREATE TRIGGER visitor_is_new AFTER INSERT ON visitors REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_newcomers()
    """,
    """
    CREATE TRIGGER day_is_appended BEFORE INSERT ON days
    FOR EACH ROW EXECUTE FUNCTION append_move()
    """,
)
BACK = (
    'DROP TRIGGER day_is_appended ON days',
    'DROP FUNCTION append_move()',
    'DROP TRIGGER visitor_is_new ON visitors',
    'DROP FUNCTION count_newcomers()',
    'DROP FUNCTION fold_moves()',
    """
    INSERT INTO days (day, shard, visitors, newcomers, latest)
    SELECT day, 0, sum(visitors), sum(newcomers), sum(latest) FROM days GROUP BY day
    """,
    'DROP TABLE day_moves',
    'DROP TABLE day_versions',
    """
    CREATE OR REPLACE FUNCTION count_visitor() RETURNS trigger LANGUAGE plpgsql AS $$
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
    FOR EACH ROW WHEN (NEW.imported_on IS NULL) EXECUTE FUNCTION count_visitor()
    """,
)


def upgrade() -> None:
    if op.get_context().dialect.name != only:
        return
    schema = 'public'
    if not op.get_context().as_sql:
        schema = op.get_bind().scalar(sa.text('SELECT quote_ident(current_schema())'))
    for statement in (*LOCK, *TABLES, *(function.replace('{schema}', schema) for function in FUNCTIONS), *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    if op.get_context().dialect.name != only:
        return
    for statement in (*LOCK, *BACK):
        op.execute(statement)
