"""How images and keys are called, for those who read them from people."""

import re

AMI = re.compile(r'ami-[0-9a-z]{8,}')
KEY_LENGTH = 16
KEY = re.compile(f'[0-9a-f]{{{KEY_LENGTH}}}')
