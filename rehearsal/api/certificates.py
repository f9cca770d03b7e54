"""Certificates of ACM, signed by the authority of this rehearsal."""

from typing import Any

from moto.acm.models import CertBundle
from moto.acm.responses import AWSCertificateManagerResponse

from rehearsal.api.patching import Extension


class CertificateRequests(Extension, extends=AWSCertificateManagerResponse):
    """Requests for certificates."""

    def request_certificate(self) -> Any:
        """Issue a certificate with the requested kind of key; moto signs each by itself, with a key of one kind.

        https://docs.aws.amazon.com/acm/latest/APIReference/API_RequestCertificate.html
        """
        answer = self.moto_request_certificate()
        backend, authority = self.acm_backend, self.rehearsal.authority
        draft = backend._certificates[answer.result['CertificateArn']]
        issued = authority.issue([draft.common_name, *draft.sans], self._get_param('KeyAlgorithm', 'RSA_2048'))
        bundle = CertBundle(backend.account_id, issued.certificate, issued.key, authority.certificate,
                            backend.region_name, draft.arn, draft.type, draft.status, draft.cert_authority_arn,
                            draft.cert_options)
        bundle.tags = draft.tags
        backend._certificates[draft.arn] = bundle
        return answer
