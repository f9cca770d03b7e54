"""An authority of the tests' own, and the certificates that it gives to servers on this machine."""

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority that no machine knows yet."""

    def __init__(self, name: str) -> None:
        """Make the key and the certificate."""
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = self._certified(self._name, self._key.public_key(), constraints)

    @property
    def certificate(self) -> str:
        """Its own certificate as PEM: a holder trusts the certificates of the authority."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def certify(self, address: str) -> tuple[str, str]:
        """Return the key and the certificate of a server at an address, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        certificate = self._certified(subject, key.public_key(), names)
        return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                  serialization.NoEncryption()).decode(),
                certificate.public_bytes(serialization.Encoding.PEM).decode())

    def _certified(self, subject: x509.Name, key: ec.EllipticCurvePublicKey,
                   extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder(
            subject_name=subject, issuer_name=self._name, public_key=key, serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1), not_valid_after=now + timedelta(days=1))
        return builder.add_extension(extension, critical=True).sign(self._key, hashes.SHA256())
