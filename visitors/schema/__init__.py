"""The schema and its migration at boot: one leader migrates under a lock, all other instances wait or serve."""

from visitors.schema.admission import bring_up
from visitors.schema.commands import init_app
from visitors.schema.decision import State
from visitors.schema.deploy import Options
from visitors.schema.errors import Exit
from visitors.schema.revisions import CodeRevisions
from visitors.schema.status import Fitness

__all__ = ['bring_up', 'CodeRevisions', 'Exit', 'Fitness', 'init_app', 'Options', 'State']
