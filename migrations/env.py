"""The file that Alembic runs for each of its commands; visitors/schema/environment.py limits each of them."""

from visitors.schema import environment

environment.run()
