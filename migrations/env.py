"""Alembic runs this file for each of its commands; what they may do is said in visitors/schema/environment.py."""

from visitors.schema import environment

environment.run()
