"""The authorities of RDS that a bake puts into the AMI: current, complete, and those of their source."""

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from hashlib import sha256
import re

from cryptography import x509

from tests.support.server import ROOT
from tests.tools.authorities import as_text, authorities_in, FILE, name_of

# Another content comes from `make authorities` only, with a new checksum here.
CHECKSUM = 'c8d18cfa0a7d4f8acb96664a6ce8b00dabecda96b30349e151f0fcf4c44618bf'  # pragma: allowlist secret
NAME = re.compile(r'Amazon RDS ([a-z0-9-]+) Root CA (RSA2048|RSA4096|ECC384) G1')
CONTENT = (ROOT / FILE).read_bytes()
CERTIFICATES = x509.load_pem_x509_certificates(CONTENT)


def test_the_file_has_the_content_that_was_checked() -> None:
    assert sha256(CONTENT).hexdigest() == CHECKSUM


def test_every_region_has_an_authority_for_each_kind_of_key() -> None:
    kinds = defaultdict(set)
    for certificate in CERTIFICATES:
        match = NAME.fullmatch(name_of(certificate))
        assert match, name_of(certificate)
        kinds[match[1]].add(match[2])
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html#UsingWithRDS.SSL.CertificatesAllRegions
    assert {region: found for region, found in kinds.items() if len(found) < 3} == {}
    for path in (ROOT / 'terraform' / 'environments').glob('*.tfvars'):
        (region,) = re.findall(r'^region += "(.*)"$', path.read_text(encoding='utf-8'), re.MULTILINE)
        assert region in kinds, path.name


def test_each_certificate_is_a_root_that_signs_for_years() -> None:
    soon = datetime.now(timezone.utc) + timedelta(days=3 * 365)
    for certificate in CERTIFICATES:
        assert certificate.subject == certificate.issuer, name_of(certificate)
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, name_of(certificate)
        assert certificate.not_valid_after_utc > soon, f'{name_of(certificate)}: make authorities renews the file'
        certificate.verify_directly_issued_by(certificate)


def test_the_tool_reads_javascript_and_drops_certificates_that_have_expired() -> None:
    lines = [line for certificate in CERTIFICATES[:2] for line in
             CONTENT.decode().split(f'# {name_of(certificate)},')[1].splitlines()[1:]]
    kept = [line for line in lines if line and not line.startswith('#')]
    source = 'exports.defaults = [\n' + ' +\n'.join(f"        '{line}\\n'" for line in kept) + '];'
    found = authorities_in(source)
    assert CERTIFICATES[0] in found and CERTIFICATES[1] in found
    assert as_text(found, CERTIFICATES[0].not_valid_after_utc + timedelta(days=400 * 365)) == ''
