"""The control characters that are removed from other programs' output before it is shown."""

import re

# Escape sequences that move the cursor or change colours, and control characters such as the bell.
CONTROL = re.compile(r'\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]')
