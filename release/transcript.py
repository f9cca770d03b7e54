"""What Packer and Ansible print, understood: the part of a bake they are in, the task that runs, what has failed."""

from dataclasses import dataclass
import json
import re

LINE = re.compile(r'(?:==> |    )(?P<build>[\w.-]+): ?(?P<text>.*)')
TASK = re.compile(r'(?:TASK|RUNNING HANDLER) \[(?P<name>.*)\] \*')
TASK_FAILED = re.compile(
    r'(?:fatal|failed): \[[^\]]*\](?:: (?:FAILED|UNREACHABLE)!)?(?P<item> \(item=.*?\))? => (?P<result>.*)')
IGNORED = '...ignoring'
BUILD_FAILED = re.compile(r"Build '[^']*' errored(?: after .*?)?: (?P<why>.*)")
REFUSED = re.compile(r'Error: (?P<why>.*)')
END_OF_REASON = ('==> Wait completed', '==> Some builds')
# The first words of what Packer says when the next part of a bake begins, alike in 1.6 and 1.14.
PARTS = {
    'Prevalidating': 'launch',
    'Waiting for SSH': 'boot',
    'Connected to SSH': 'provision',
    'Provisioning with': 'provision',
    'Running local shell': 'provision',
    'Stopping the source instance': 'stop',
    'Creating AMI ': 'image',
    'Terminating the source': 'clean up',
}
# What Packer makes for itself; 1.6 does not tag it, so it is known by its name.
TEMPORARY = re.compile(r'Creating temporary .*?(?:keypair|security group).*?: (?P<name>\S+)$')
# What says nothing to whoever waits.
NOISE = ('Adding tag', 'PLAY ')
REASON_LINES = 8
STDERR_LINES = 5


@dataclass(frozen=True)
class Failure:
    """The task that has failed, and what it said."""

    task: str
    message: str

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f'the task "{self.task}" failed: {self.message}'


class Transcript:
    def __init__(self) -> None:
        """Understand the output of one build, line by line."""
        self.part = 'launch'
        self.doing = ''
        self.temporary: list[str] = []
        self._task = ''
        self._failures: list[Failure] = []
        self._reason: list[str] = []
        self._in_reason = False

    def hear(self, line: str) -> None:
        """Take the next line."""
        match = LINE.match(line)
        if match:
            self._hear_build(match['text'].strip())
        else:
            self._hear_packer(line)

    @property
    def failure(self) -> str:
        """Why the build has failed: the task and its message where one has, else what Packer says."""
        if self._failures:
            return str(self._failures[-1])
        return '\n'.join(self._reason).strip() or 'it does not say why'

    def _hear_build(self, text: str) -> None:
        self._in_reason = False
        for words, part in PARTS.items():
            if text.startswith(words):
                self.part = part
        if match := TASK.match(text):
            self._task = self.doing = match['name']
        elif match := TASK_FAILED.match(text):
            self._failures.append(Failure(self._task + (match['item'] or ''), _message(match['result'])))
        elif text == IGNORED:
            self._failures.pop()
        elif match := TEMPORARY.match(text):
            self.temporary.append(match['name'])
            self.doing = text
        elif text and not text.startswith(NOISE) and not (self._task and self.part == 'provision'):
            self.doing = text

    def _hear_packer(self, line: str) -> None:
        if line.startswith(END_OF_REASON):
            self._in_reason = False
        elif match := BUILD_FAILED.match(line) or REFUSED.match(line):
            self._in_reason = True
            self._reason.append(match['why'])
        elif self._in_reason and len(self._reason) < REASON_LINES and line.strip():
            self._reason.append(line.rstrip())


def _message(result: str) -> str:
    """Return what a failed task says: its message, and the end of what its program has written."""
    try:
        told = json.loads(result)
    except ValueError:
        return result.strip()
    stderr = str(told.get('stderr') or told.get('module_stderr') or '').strip().splitlines()[-STDERR_LINES:]
    parts = (str(told.get('msg', '')).strip(), '\n'.join(stderr))
    return ': '.join(part for part in parts if part) or result.strip()
