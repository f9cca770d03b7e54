"""The schema and how it comes up at boot: one leader migrates under a lock, everybody else waits or goes on."""

from visitors.schema.boot import bring_up
from visitors.schema.commands import init_app
from visitors.schema.decision import State
from visitors.schema.errors import Exit
from visitors.schema.fitness import Fitness
from visitors.schema.options import Options
from visitors.schema.revisions import CodeRevisions

__all__ = ['bring_up', 'CodeRevisions', 'Exit', 'Fitness', 'init_app', 'Options', 'State']
