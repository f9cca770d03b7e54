"""The versions of the AWS SDK for Python that the tools run on."""

from tests.support.server import ROOT

# Debian 13's SDK, the one of the machine image, and the newest, which this Python has.
SDKS = {'1.37': ROOT / '.venv' / 'botocore-1.37', '1.44': None}
