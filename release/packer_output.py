"""The output of Packer and Ansible, parsed: the current part of a bake, its current step, the reason of a failure."""

from dataclasses import dataclass
import json
import re

LINE = re.compile(r'(?:==> |    )(?P<build>[\w.-]+): ?(?P<text>.*)')
TASK = re.compile(r'(?:TASK|RUNNING HANDLER) \[(?P<name>.*)\] \*')
TASK_FAILED = re.compile(
    r'(?:fatal|failed): \[[^\]]*\](?:: (?:FAILED|UNREACHABLE)!)?(?P<item> \(item=.*?\))? => (?P<result>.*)')
IGNORED = '...ignoring'
BUILD_FAILED = re.compile(r"Build '[^']*' errored(?: after .*?)?: (?P<reason>.*)")
REFUSED = re.compile(r'Error: (?P<reason>.*)')
END_OF_REASON = ('==> Wait completed', '==> Some builds')
# The first words of Packer's lines at the start of each part of a bake, the same in 1.6 and 1.14.
PARTS = {
    'Prevalidating': 'launch',
    'Waiting for SSH': 'boot',
    'Connected to SSH': 'provision',
    'Provisioning with': 'provision',
    'Running local shell': 'provision',
    'Stopping the source instance': 'stop',
    'Creating AMI ': 'AMI',
    'Terminating the source': 'clean up',
}
# Packer 1.6 only: it does not tag its temporary key pair and security group, so they are found by name.
UNTAGGED = re.compile(r'Creating temporary .*?(?:keypair|security group).*?: (?P<name>\S+)$')
# Lines without information for a reader who waits.
NOISE = ('Adding tag', 'PLAY ')
REASON_LINES = 8
STDERR_LINES = 5


@dataclass(frozen=True)
class Failure:
    """A task that failed, with its message."""

    task: str
    message: str

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f'the task "{self.task}" failed: {self.message}'


class PackerOutput:
    """The output of one build, parsed line by line."""

    def __init__(self) -> None:
        """Start in the first part of a bake."""
        self.part = 'launch'
        self.step = ''
        self.untagged: list[str] = []
        self._task = ''
        self._failures: list[Failure] = []
        self._reason: list[str] = []
        self._in_reason = False

    def read(self, line: str) -> None:
        """Parse the next line."""
        match = LINE.match(line)
        if match:
            self._read_build(match['text'].strip())
        else:
            self._read_packer(line)

    @property
    def failure(self) -> str:
        """The reason of a failed build: the failed task and its message if there is one, else Packer's own error."""
        if self._failures:
            return str(self._failures[-1])
        return '\n'.join(self._reason).strip() or 'Packer gives no reason'

    def _read_build(self, text: str) -> None:
        self._in_reason = False
        for words, part in PARTS.items():
            if text.startswith(words):
                self.part = part
        if match := TASK.match(text):
            self._task = self.step = match['name']
        elif match := TASK_FAILED.match(text):
            self._failures.append(Failure(self._task + (match['item'] or ''), _message(match['result'])))
        elif text == IGNORED:
            self._failures.pop()
        elif match := UNTAGGED.match(text):
            self.untagged.append(match['name'])
            self.step = text
        elif text and not text.startswith(NOISE) and not (self._task and self.part == 'provision'):
            self.step = text

    def _read_packer(self, line: str) -> None:
        if line.startswith(END_OF_REASON):
            self._in_reason = False
        elif match := BUILD_FAILED.match(line) or REFUSED.match(line):
            self._in_reason = True
            self._reason.append(match['reason'])
        elif self._in_reason and len(self._reason) < REASON_LINES and line.strip():
            self._reason.append(line.rstrip())


def _message(text: str) -> str:
    """Return the message of a failed task and the end of its program's stderr."""
    try:
        result = json.loads(text)
    except ValueError:
        return text.strip()
    stderr = str(result.get('stderr') or result.get('module_stderr') or '').strip().splitlines()[-STDERR_LINES:]
    parts = (str(result.get('msg', '')).strip(), '\n'.join(stderr))
    return ': '.join(part for part in parts if part) or text.strip()
