"""What each verb that needs more than a checkout does, from its options to its result."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

from release import artefacts, listing, purge
from release.artefacts import SETTING, Store, store_at
from release.aws import Aws
from release.bake import Bake, Wish
from release.confirmation import confirm
from release.container import FromArchive, FromEngine, Source
from release.errors import Exit, Interrupted, ReleaseError
from release.interruption import Interruption
from release.progress import progress
from release.run import new_run_id, Run
from release.stages import Difference
from release.verify import verify
from release.version import ROOT
from release.waiting import Deadline

IMAGES = ROOT / 'build' / 'images'
KEPT = ROOT / 'build' / 'artefacts'
REPORT = ROOT / 'build' / 'bake.json'


@dataclass(frozen=True)
class Result:
    """What a verb has to say: to people, and to programs."""

    text: str
    data: Any


def carry_out(options: Namespace, environ: Mapping[str, str]) -> Result:
    """Return the result of a verb; raise one of our errors, or Interrupted, when there is none."""
    interruption = Interruption()
    with interruption.handled(), interruption.prevailing():
        return _carry_out(options, environ, interruption)


def _carry_out(options: Namespace, environ: Mapping[str, str], interruption: Interruption) -> Result:
    if options.verb == 'archive':
        return _archive(options)
    shown = progress()
    run = Run(run_id=new_run_id(), root=ROOT, environ=environ, aws=Aws(environ, options.region, tell=shown.step),
              progress=shown, interruption=interruption, deadline=Deadline(options.timeout, interruption.check))
    return VERBS[options.verb](options, run)


def _archive(options: Namespace) -> Result:
    source = FromEngine(options.image, IMAGES)
    path, image = source.archive(), source.describe()
    return Result(str(path), {'archive': str(path), **asdict(image)})


def _bake(options: Namespace, run: Run) -> Result:
    bake = Bake(run, _store(options, run), Wish(_source(options), options.force, options.scan or '', options.subnet))
    if options.explain:
        return _explained(bake.explain(), bake.outcome.keys)
    with _reported(run, bake) as report, run.interruption.prevailing():
        bake.bake()
    return Result(bake.outcome.amis['app'], report)


def _verify(options: Namespace, run: Run) -> Result:
    verified = verify(run, options.ami, run.deadline, options.subnet)
    return Result(f'{verified.ami} is released: its self-test has passed as version {verified.version}',
                  asdict(verified))


def _purge(options: Namespace, run: Run) -> Result:
    store = _store(options, run)
    found = purge.find(run, store, options.which)
    purge.refuse_what_is_used(run, found)
    confirm([str(each) for each in found], options.yes, run.environ)
    purge.purge(run, store, found)
    return Result('\n'.join(f'removed {each.ami}, {each.stage} {each.version}, key {each.key}' for each in found),
                  [asdict(each) for each in found])


def _list(options: Namespace, run: Run) -> Result:
    entries = listing.entries(run.aws)
    return Result(listing.table(entries), [entry.as_dict() for entry in entries])


def _artefacts(options: Namespace, run: Run) -> Result:
    copies = artefacts.fetch(_store(options, run), options.ami, Path(options.to) / options.ami)
    return Result('\n'.join(map(str, copies)), [str(path) for path in copies])


VERBS: dict[str, Callable[[Namespace, Run], Result]] = {
    'artefacts': _artefacts, 'bake': _bake, 'list': _list, 'purge': _purge, 'verify': _verify}


def _source(options: Namespace) -> Source:
    return FromArchive(Path(options.archive)) if options.archive is not None else FromEngine(options.image, IMAGES)


def _store(options: Namespace, run: Run) -> Store:
    return store_at(options.artefacts or run.environ.get(SETTING) or str(KEPT), run.aws)


def _explained(differences: Mapping[str, Difference], keys: Mapping[str, str]) -> Result:
    text = '\n'.join(f'{stage}, key {keys[stage]}: {difference}' for stage, difference in differences.items())
    return Result(text, {stage: {
        'key': keys[stage],
        'against': difference.against and difference.against.ami,
        'engine': difference.against and difference.against.engine,
        'running': difference.runs,
        'changes': [asdict(change) for change in difference.changes],
    } for stage, difference in differences.items()})


@contextmanager
def _reported(run: Run, bake: Bake) -> Iterator[dict[str, Any]]:
    """Give a report of a bake, filled and written at its end, however it ends."""
    report: dict[str, Any] = {}
    code, error = Exit.UNFORESEEN, ''
    try:
        yield report
        code = Exit.DONE
    except (ReleaseError, Interrupted) as raised:
        code, error = raised.code, str(raised)
        raise
    finally:
        report |= {
            'run': run.run_id, 'region': run.aws.region, 'exit_code': int(code), 'error': error,
            **asdict(bake.outcome),
            'seconds': round(sum(phase.seconds for phase in run.progress.phases), 3),
            'phases': [{'name': phase.name, 'seconds': round(phase.seconds, 3)} for phase in run.progress.phases],
        }
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
