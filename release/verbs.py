"""The verbs that call AWS or Docker: each takes the options and returns a result for people and programs."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
import json
from pathlib import Path
import sys
from typing import Any

from release import artefacts, difference, listing, prune, removal, status, sweep
from release.amis import APP
from release.artefacts import SETTING, Store, store_at
from release.aws import Aws
from release.bake import Bake, Request
from release.commandline import print_out
from release.confirmation import confirm
from release.container import FromArchive, FromEngine, Source
from release.errors import Exit, Interrupted, NotReady, ReleaseError, TimedOut
from release.explain import Difference
from release.interruption import Interruption
from release.preflight import Pace
from release.progress import progress
from release.retention import Window
from release.roll import Outcome, Request as RollRequest, Roll
from release.session import new_run_id, Session
from release.verify import verify
from release.version import ROOT
from release.waiting import Deadline

IMAGES = ROOT / 'build' / 'images'
ARTEFACTS = ROOT / 'build' / 'artefacts'
WATCH_SECONDS = 5.0
REPORT = ROOT / 'build' / 'bake.json'


@dataclass(frozen=True)
class Result:
    """The result of a verb: as text, and as data for --json."""

    text: str
    data: Any
    exit_code: int = Exit.DONE


def carry_out(options: Namespace, environ: Mapping[str, str]) -> Result:
    """Return the result of a verb; raise ReleaseError or Interrupted if it fails."""
    interruption = Interruption()
    with interruption.handled(), interruption.prevailing():
        return _carry_out(options, environ, interruption)


def _carry_out(options: Namespace, environ: Mapping[str, str], interruption: Interruption) -> Result:
    if options.verb == 'archive':
        return _archive(options)
    display = progress()
    session = Session(run_id=new_run_id(), root=ROOT, environ=environ, progress=display, interruption=interruption,
                      aws=Aws(environ, options.region, report=display.step),
                      deadline=Deadline(options.timeout, interruption.check))
    return VERBS[options.verb](options, session)


def _archive(options: Namespace) -> Result:
    source = FromEngine(options.image, IMAGES)
    path, image = source.archive(), source.describe()
    return Result(str(path), {'archive': str(path), **asdict(image)})


def _bake(options: Namespace, session: Session) -> Result:
    request = Request(_source(options), options.force, options.scan or '', options.subnet)
    bake = Bake(session, _store(options, session), request)
    if options.explain:
        return _explained(bake.explain(), bake.outcome.keys)
    with _reported(session, bake) as report, session.interruption.prevailing():
        outcome = bake.bake()
    return Result(outcome.amis[APP], report)


def _verify(options: Namespace, session: Session) -> Result:
    verified = verify(session, options.ami, session.deadline, options.subnet)
    return Result(f'{verified.ami} is released: it passed its self-test as version {verified.version}',
                  asdict(verified))


def _remove(options: Namespace, session: Session) -> Result:
    store = _store(options, session)
    remains = removal.find(session, store, options.which)
    removal.refuse_used(session, remains)
    confirm([str(each) for each in remains], options.yes, session.environ)
    removal.remove(session, store, remains)
    return Result('\n'.join(f'removed {each.ami}, {each.stage} {each.version}, input hash {each.key}'
                            for each in remains), [asdict(each) for each in remains])


def _diff(options: Namespace, session: Session) -> Result:
    patterns = difference.deny_list(Path(options.deny)) if options.deny else []
    pair = difference.pair(session.aws, options.before, options.after)
    found = difference.between(session.aws, _store(options, session), *pair)
    found = replace(found, refused=difference.refused(found.changes, patterns))
    if patterns and found.missing:
        raise NotReady(f'the deny list needs all parts; not compared: {", ".join(found.missing)}')
    return Result(str(found), asdict(found), Exit.REFUSED_CHANGE if found.refused else Exit.DONE)


def _roll(options: Namespace, session: Session) -> Result:
    return _rolled(_rolling(options, session).forward())


def _rollback(options: Namespace, session: Session) -> Result:
    return _rolled(_rolling(options, session).back())


def _rolling(options: Namespace, session: Session) -> Roll:
    pace = Pace(options.surge, options.canary, options.bake)
    request = RollRequest(options.group, options.which, options.url, tuple(options.alarm or ()), pace, options.plan)
    return Roll(session, _store(options, session), request)


def _rolled(outcome: Outcome) -> Result:
    return Result(str(outcome), asdict(outcome), outcome.exit_code)


def _status(options: Namespace, session: Session) -> Result:
    store = _store(options, session)
    if options.watch:
        def show() -> None:
            print_out(status.screen(status.read(session.aws, store, options.group), sys.stdout.isatty()))

        with suppress(TimedOut):
            session.deadline.until(show, 'the end of the watch', every=WATCH_SECONDS)
    found = status.read(session.aws, store, options.group)
    return Result(found.shown(datetime.now(timezone.utc)), json.loads(json.dumps(asdict(found), default=str)))


def _prune(options: Namespace, session: Session) -> Result:
    window = Window(options.keep, timedelta(days=options.days))
    rows = prune.prune(session, _store(options, session), window, options.limit, options.yes)
    return Result(f'{prune.table(rows)}\n{prune.summary(rows)}', [asdict(row) for row in rows])


def _sweep(options: Namespace, session: Session) -> Result:
    rows = sweep.sweep(session, timedelta(hours=options.hours), options.limit, options.yes)
    return Result(sweep.table(rows), [asdict(row) for row in rows])


def _list(options: Namespace, session: Session) -> Result:
    entries = listing.entries(session.aws)
    return Result(listing.table(entries), [entry.as_dict() for entry in entries])


def _artefacts(options: Namespace, session: Session) -> Result:
    copies = artefacts.fetch(_store(options, session), options.ami, Path(options.to) / options.ami)
    return Result('\n'.join(map(str, copies)), [str(path) for path in copies])


VERBS: dict[str, Callable[[Namespace, Session], Result]] = {
    'artefacts': _artefacts, 'bake': _bake, 'diff': _diff, 'list': _list, 'prune': _prune, 'remove': _remove,
    'roll': _roll, 'rollback': _rollback, 'status': _status, 'sweep': _sweep, 'verify': _verify}


def _source(options: Namespace) -> Source:
    return FromArchive(Path(options.archive)) if options.archive is not None else FromEngine(options.image, IMAGES)


def _store(options: Namespace, session: Session) -> Store:
    return store_at(options.artefacts or session.environ.get(SETTING) or str(ARTEFACTS), session.aws)


def _explained(differences: Mapping[str, Difference], hashes: Mapping[str, str]) -> Result:
    text = '\n'.join(f'{stage}, input hash {hashes[stage]}: {difference}' for stage, difference in differences.items())
    return Result(text, {stage: {
        'key': hashes[stage],
        'against': difference.against and difference.against.id,
        'engine': difference.against and difference.against.engine,
        'running': difference.runs,
        'changes': [asdict(change) for change in difference.changes],
    } for stage, difference in differences.items()})


@contextmanager
def _reported(session: Session, bake: Bake) -> Iterator[dict[str, Any]]:
    """Yield the report of a bake; fill and write it at the end of the block, even if the bake fails."""
    report: dict[str, Any] = {}
    code, error = Exit.UNEXPECTED, ''
    try:
        yield report
        code = Exit.DONE
    except (ReleaseError, Interrupted) as failure:
        code, error = failure.exit_code, str(failure)
        raise
    finally:
        phases = session.progress.phases
        report |= {
            'run': session.run_id, 'region': session.aws.region, 'exit_code': int(code), 'error': error,
            **asdict(bake.outcome),
            'seconds': round(sum(phase.seconds for phase in phases), 3),
            'phases': [{'name': phase.name, 'seconds': round(phase.seconds, 3)} for phase in phases],
        }
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
