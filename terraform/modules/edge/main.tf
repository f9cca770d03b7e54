# The name, its certificate, and a check that the world reaches the page under it.

locals {
  zone_id = var.create_zone ? aws_route53_zone.this[0].zone_id : data.aws_route53_zone.this[0].zone_id
}

resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38: DNSSEC needs a key in us-east-1 and a record at the registrar, which a person enters
  # checkov:skip=CKV2_AWS_39: a log of queries would hold addresses
  count = var.create_zone ? 1 : 0

  name    = var.zone_name
  comment = var.name
}

data "aws_route53_zone" "this" {
  count = var.create_zone ? 0 : 1

  name = var.zone_name
}

resource "aws_acm_certificate" "this" {
  domain_name       = var.domain_name
  validation_method = "DNS"
  key_algorithm     = "EC_prime256v1"

  lifecycle {
    create_before_destroy = true # the listener uses the old certificate until it has the new one

    precondition {
      condition     = var.domain_name == var.zone_name || endswith(var.domain_name, ".${var.zone_name}")
      error_message = "domain_name ${var.domain_name} is not in the zone zone_name ${var.zone_name}, so its records cannot be created there."
    }
  }
}

locals {
  # One name in the certificate, so one record that proves it.
  validation = one(aws_acm_certificate.this.domain_validation_options)
}

resource "aws_route53_record" "validation" {
  zone_id         = local.zone_id
  name            = local.validation.resource_record_name
  type            = local.validation.resource_record_type
  records         = [local.validation.resource_record_value]
  ttl             = 60
  allow_overwrite = true # the same name has the same record in each installation and each renewal
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [aws_route53_record.validation.fqdn]
}

resource "aws_route53_record" "page" {
  for_each = toset(["A", "AAAA"])

  zone_id = local.zone_id
  name    = var.domain_name
  type    = each.key

  alias {
    name                   = var.load_balancer.dns_name
    zone_id                = var.load_balancer.zone_id
    evaluate_target_health = true
  }
}

# No other authority may issue a certificate for this name.
resource "aws_route53_record" "caa" {
  zone_id = local.zone_id
  name    = var.domain_name
  type    = "CAA"
  ttl     = 3600
  records = ["0 issue \"amazon.com\""]
}
