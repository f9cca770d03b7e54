"""Certificates of ACM: with the key that was asked for, signed by the authority of this rehearsal."""

from typing import Any

from moto.acm.models import CertBundle
from moto.acm.responses import AWSCertificateManagerResponse

from rehearsal.api.patching import wrapping
from rehearsal.authority import Authority


def install(authority: Authority) -> None:
    """Issue certificates that a client trusts which trusts this authority."""
    @wrapping(AWSCertificateManagerResponse, 'request_certificate')
    def request_certificate(original: Any, response: Any) -> Any:
        # https://docs.aws.amazon.com/acm/latest/APIReference/API_RequestCertificate.html
        answer = original(response)
        backend = response.acm_backend
        drafted = backend._certificates[answer.result['CertificateArn']]
        issued = authority.issue([drafted.common_name, *drafted.sans], response._get_param('KeyAlgorithm', 'RSA_2048'))
        bundle = CertBundle(backend.account_id, issued.certificate, issued.key, authority.certificate,
                            backend.region_name, drafted.arn, drafted.type, drafted.status,
                            drafted.cert_authority_arn, drafted.cert_options)
        bundle.tags = drafted.tags
        backend._certificates[drafted.arn] = bundle
        return answer
