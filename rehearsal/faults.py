"""Faults for tests: the API refuses, loses, delays, throttles or answers calls of chosen operations, and lists all.

In the process of an embedded rehearsal (rehearsal/embedded.py), on its `faults`:

    faults.refuse('CompleteLifecycleAction', code='AccessDenied', status=403)     # until faults.clear()
    faults.refuse('TerminateInstances', times=1)                                  # the next call only
    faults.refuse(times=8)                                                        # each operation's next 8 calls
    faults.refuse('PutLogEvents', when=lambda call: 'bad entry' in call.text)     # only some calls
    faults.lose('ssm:PutParameter', times=1)        # the API acts, and its answer is lost: the caller gets an error
    faults.stall('DescribeInstances', seconds=5)    # the answer comes late; faults.clear() ends the wait
    faults.throttle('ec2:*', per_second=2)          # calls beyond it are refused as AWS does
    faults.answer('DescribeInstanceRefreshes', result={'InstanceRefreshes': []})  # instead of the API
    faults.watch('SetInstanceHealth', act=lambda call: file.touch())              # runs before the API answers

    [call.operation for call in faults.calls]       # all calls since clear(): service, operation, text, parameters
    faults.refused                                  # the names of those refused or lost, such as 'ssm:GetParameter'

An operation is a pattern of the shell's kind: `GetParameter`, `ssm:GetParameter`, `ssm:*`, `PUT /bucket/*`. Without
one a fault is for all operations. The newest fault that applies to a call decides.

From another process, as `Rehearsal.fault()` does: PUT a JSON list of faults (the fields of `Fault`) to
/rehearsal/faults, DELETE it to clear, GET it for the refused calls, and GET /rehearsal/calls for all calls.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
import logging
from threading import Event, Lock
import time
from typing import Any

from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.wrappers import Response

from rehearsal.calls import Call, read_call
from rehearsal.listeners import Application

logger = logging.getLogger(__name__)

KEPT = 10_000
EFFECTS = ('refuse', 'lose', 'stall', 'throttle', 'answer', 'watch')
# AWS's codes for a service that fails, and for calls beyond its limits; EC2's is in
# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
UNAVAILABLE, THROTTLED = 'ServiceUnavailable', 'ThrottlingException'
LIMIT_OF = {'ec2': ('RequestLimitExceeded', 503), 'autoscaling': ('Throttling', 400),
            'elasticloadbalancing': ('Throttling', 400), 'iam': ('Throttling', 400), 'sts': ('Throttling', 400)}
# Services whose name in botocore is not the one that signs their calls.
SIGNED_AS = {'elasticloadbalancing': 'elbv2', 'monitoring': 'cloudwatch', 'tagging': 'resourcegroupstaggingapi'}


def always(_call: Call) -> bool:
    """Return that a fault applies to every call."""
    return True


def nothing(_call: Call) -> None:
    """Do nothing."""


@dataclass
class Fault:
    """A fault of the calls of some operations."""

    effect: str
    operations: tuple[str, ...] = ()
    # For each operation; None is until the faults are cleared.
    times: int | None = None
    status: int = 503
    code: str = UNAVAILABLE
    message: str = 'a fault of the rehearsal'
    seconds: float = 0
    per_second: float = 0
    result: Mapping[str, Any] = field(default_factory=dict)
    when: Callable[[Call], bool] = always
    act: Callable[[Call], None] = nothing
    used: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Refuse an unknown effect."""
        if self.effect not in EFFECTS:
            raise ValueError(f'effect {self.effect!r}: take one of {", ".join(EFFECTS)}')
        self.operations = tuple(self.operations)
        self._allowance, self._refilled = max(1.0, self.per_second), time.monotonic()

    def concerns(self, call: Call) -> bool:
        """Return whether the fault is one for a call."""
        names = (call.name, call.operation)
        is_named = any(fnmatchcase(name, pattern) for pattern in self.operations for name in names)
        return (is_named or not self.operations) and self.when(call)

    def take(self, call: Call) -> bool:
        """Return whether the fault still applies to a call that it concerns, and count the call then."""
        if self.times is not None and self.used[call.name] >= self.times:
            return False
        if self.effect == 'throttle' and self._has_allowance():
            return False
        self.used[call.name] += 1
        return True

    def _has_allowance(self) -> bool:
        """Return whether a call is within the limit: a bucket of tokens that is refilled steadily, as EC2's."""
        now = time.monotonic()
        self._allowance = min(max(1.0, self.per_second), self._allowance + (now - self._refilled) * self.per_second)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class Faults:
    """An API with faults, which lists its calls."""

    def __init__(self, application: Application) -> None:
        """Answer by this application where no fault decides otherwise."""
        self._application = application
        self._lock = Lock()
        self._faults: list[Fault] = []
        self._cleared = Event()
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self.refused: list[str] = []

    def refuse(self, *operations: str, times: int | None = None, status: int = 503, code: str = UNAVAILABLE,
               message: str = Fault.message, when: Callable[[Call], bool] = always) -> None:
        """Answer calls by an error."""
        self.add(Fault('refuse', operations, times, status, code, message, when=when))

    def lose(self, *operations: str, times: int | None = None, status: int = 503, code: str = UNAVAILABLE) -> None:
        """Perform calls, and answer them by an error all the same."""
        self.add(Fault('lose', operations, times, status, code))

    def stall(self, *operations: str, seconds: float, times: int | None = None) -> None:
        """Perform calls only after some seconds."""
        self.add(Fault('stall', operations, times, seconds=seconds))

    def throttle(self, *operations: str, per_second: float) -> None:
        """Refuse calls beyond so many a second."""
        self.add(Fault('throttle', operations, per_second=per_second))

    def answer(self, *operations: str, result: Mapping[str, Any], when: Callable[[Call], bool] = always) -> None:
        """Answer calls by a result, as botocore would return it."""
        self.add(Fault('answer', operations, result=result, when=when))

    def watch(self, *operations: str, act: Callable[[Call], None]) -> None:
        """Run a function before the API performs calls."""
        self.add(Fault('watch', operations, act=act))

    def add(self, *faults: Fault) -> None:
        """Add faults."""
        with self._lock:
            self._faults = [*reversed(faults), *self._faults]

    def clear(self) -> None:
        """Remove all faults, release stalled calls, and forget the calls so far."""
        with self._lock:
            self._faults = []
            self._cleared.set()
            self._cleared = Event()
            self.calls.clear()
            self.refused.clear()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        call = read_call(environ)
        self.calls.append(call)
        faults, cleared = [fault for fault in self._faults if fault.concerns(call)], self._cleared
        for fault in faults:
            fault.act(call)
        with self._lock:
            decisive = next((fault for fault in faults if fault.effect != 'watch' and fault.take(call)), None)
        return self._respond(call, decisive, cleared, environ)(environ, start_response)

    def _respond(self, call: Call, fault: Fault | None, cleared: Event, environ: dict[str, Any]) -> Application:
        if fault is None:
            return self._application
        logger.info('fault: %s: %s', call.name, fault.effect)
        if fault.effect == 'stall':
            cleared.wait(fault.seconds)
            return self._application
        if fault.effect == 'answer':
            return answer(call, fault.result)
        if fault.effect == 'lose':
            Response.from_app(self._application, environ).close()
        self.refused.append(call.name)
        if fault.effect == 'throttle':
            code, status = LIMIT_OF.get(call.service, (THROTTLED, 400))
            return call.error(status, code, 'Rate exceeded')
        return call.error(fault.status, fault.code, fault.message)


def answer(call: Call, result: Mapping[str, Any]) -> Response:
    """Return a result in the protocol of its call."""
    model = get_service_model(SIGNED_AS.get(call.service, call.service))
    protocol = 'json' if call.is_json else str(model.protocol)
    serializer = get_serializer_class(model.service_name, protocol)(model.operation_model(call.operation))
    serialized = serializer.serialize(dict(result))
    return Response(serialized['body'], serialized['status_code'], dict(serialized['headers']))
