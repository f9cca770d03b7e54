# Policies of the edge, applied to a mocked provider.

mock_provider "aws" {
  mock_resource "aws_acm_certificate" {
    defaults = {
      arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
      domain_validation_options = [{
        domain_name           = "visitors.example.com"
        resource_record_name  = "_0.visitors.example.com."
        resource_record_type  = "CNAME"
        resource_record_value = "_1.acm-validations.aws."
      }]
    }
  }
}

mock_provider "aws" {
  alias = "us_east_1"
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:visitors-test-on-call" }
  }
}

variables {
  name          = "visitors-test"
  domain_name   = "visitors.example.com"
  zone_name     = "example.com"
  create_zone   = false
  load_balancer = { dns_name = "visitors-test.eu-central-1.elb.amazonaws.com", zone_id = "Z215JYRZR1TBD5" }
  on_call       = ["on-call@example.com"]
}

run "an_existing_zone_is_used_and_not_made_again" {
  assert {
    condition     = length(aws_route53_zone.this) == 0 && length(output.name_servers) == 0
    error_message = "A second zone of the same name would have other name servers than the registrar knows."
  }
}

run "the_page_is_checked_as_a_visitor_reaches_it" {
  assert {
    condition     = aws_route53_health_check.page.fqdn == "visitors.example.com" && aws_route53_health_check.page.port == 443 && aws_route53_health_check.page.enable_sni
    error_message = "The check would not notice a broken name, certificate or load balancer."
  }
  assert {
    condition     = aws_route53_health_check.page.resource_path == "/readyz" && aws_route53_health_check.page.search_string == "\"ready\":true"
    error_message = "A page that cannot count visits would pass the check."
  }
  assert {
    condition     = length(aws_route53_health_check.page.regions) >= 3
    error_message = "Route 53 refuses fewer than three regions."
  }
}

run "silence_of_the_check_is_an_alarm_and_both_ends_of_an_outage_are_sent" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.page_unreachable.treat_missing_data == "breaching"
    error_message = "A check that was deleted would look healthy."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.page_unreachable.alarm_actions == toset([aws_sns_topic.on_call.arn]) && aws_cloudwatch_metric_alarm.page_unreachable.ok_actions == toset([aws_sns_topic.on_call.arn])
    error_message = "The person on call would not learn that an outage began or ended."
  }
}

run "both_address_families_lead_to_the_load_balancer" {
  assert {
    condition     = keys(aws_route53_record.page) == ["A", "AAAA"]
    error_message = "Visitors of one address family would not find the page."
  }
}

run "a_new_zone_says_its_name_servers" {
  variables {
    create_zone = true
  }
  assert {
    condition     = length(aws_route53_zone.this) == 1 && length(data.aws_route53_zone.this) == 0
    error_message = "The zone would not be made."
  }
}

run "a_name_outside_the_zone_is_refused" {
  command = plan
  variables {
    zone_name = "example.org"
  }
  expect_failures = [aws_acm_certificate.this]
}

run "a_name_with_a_final_dot_is_refused" {
  command = plan
  variables {
    domain_name = "visitors.example.com."
  }
  expect_failures = [var.domain_name]
}
