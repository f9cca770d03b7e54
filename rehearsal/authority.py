"""The certificate authority of a rehearsal, which signs all its certificates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from rehearsal.errors import RehearsalError

AUTHORITY_DAYS, CERTIFICATE_DAYS = 3650, 395  # as long as ACM does
CURVES: dict[str, type[ec.EllipticCurve]] = {'EC_prime256v1': ec.SECP256R1, 'EC_secp384r1': ec.SECP384R1}
RSA_BITS = {'RSA_2048': 2048, 'RSA_3072': 3072, 'RSA_4096': 4096}
# The clock of a program that checks a certificate may be a little behind.
EARLIER = timedelta(minutes=5)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority whose key lives as long as its process."""

    def __init__(self, name: str) -> None:
        """Make the key and sign its own certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f'rehearsal {name}')])
        builder = _builder(self._name, self._name, self._key.public_key(), timedelta(AUTHORITY_DAYS))
        signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _pem(signed.sign(self._key, hashes.SHA256()))

    def issue(self, names: Sequence[str], algorithm: str) -> Issued:
        """Return a certificate for host names, the first of them its subject, with a key of this algorithm.

        Raise RehearsalError for an algorithm that ACM does not have or that is not modelled.
        https://docs.aws.amazon.com/acm/latest/userguide/acm-certificate-characteristics.html
        """
        key = _key_of(algorithm)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in dict.fromkeys(names)])
        builder = _builder(subject, self._name, key.public_key(), timedelta(CERTIFICATE_DAYS))
        certificate = builder.add_extension(alternatives, critical=False).sign(self._key, hashes.SHA256())
        return Issued(_pem(certificate), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _key_of(algorithm: str) -> PrivateKey:
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    if algorithm in RSA_BITS:
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS[algorithm])
    raise RehearsalError(f'key algorithm {algorithm!r}: take one of {", ".join([*CURVES, *RSA_BITS])}')


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
             validity: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - EARLIER)
            .not_valid_after(now + validity))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
