output "certificate_arn" {
  description = "The certificate, issued."
  value       = aws_acm_certificate_validation.this.certificate_arn
}

output "url" {
  description = "URL of the page."
  value       = "https://${var.domain_name}/"
}

output "name_servers" {
  description = "Name servers of the zone that this module creates, to be entered at the registrar; empty for an existing zone."
  value       = var.create_zone ? aws_route53_zone.this[0].name_servers : []
}

output "alarm_name" {
  description = "Alarm in us-east-1 that rings when the page cannot be reached."
  value       = aws_cloudwatch_metric_alarm.page_unreachable.alarm_name
}
