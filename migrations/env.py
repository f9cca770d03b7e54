"""The file that Alembic runs for each of its commands; visitors/schema/environment.py says what each may do."""

from visitors.schema import environment

environment.run()
