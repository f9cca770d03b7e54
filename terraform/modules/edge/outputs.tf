output "certificate_arn" {
  description = "The certificate, issued."
  value       = aws_acm_certificate_validation.this.certificate_arn
}

output "url" {
  description = "Where the page is."
  value       = "https://${var.domain_name}/"
}

output "name_servers" {
  description = "Name servers of the zone that was made here, to be entered at the registrar; empty for a zone that existed."
  value       = var.create_zone ? aws_route53_zone.this[0].name_servers : []
}

output "alarm_name" {
  description = "Alarm in us-east-1 that rings when the page cannot be reached."
  value       = aws_cloudwatch_metric_alarm.page_unreachable.alarm_name
}
