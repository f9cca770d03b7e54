# Route 53 asks the page from three continents, as a visitor would: by its name, with TLS, through the load balancer.
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html

resource "aws_route53_health_check" "page" {
  type              = "HTTPS_STR_MATCH"
  fqdn              = var.domain_name
  port              = 443
  resource_path     = "/readyz"
  search_string     = var.ready_text
  enable_sni        = true # by default the provider enables it for the type HTTPS only
  request_interval  = 30
  failure_threshold = 3
  regions           = ["eu-west-1", "us-east-1", "ap-southeast-1"]

  tags = { Name = "${var.name}-page" }
}

# The parent counts its children: a second installation becomes one more child, and alarm and records stay as they are.
resource "aws_route53_health_check" "service" {
  type                   = "CALCULATED"
  child_healthchecks     = [aws_route53_health_check.page.id]
  child_health_threshold = 1

  tags = { Name = "${var.name}-service" }
}

resource "aws_sns_topic" "on_call" {
  # checkov:skip=CKV_AWS_26: an alarm holds no secret, and CloudWatch cannot publish to a topic with the key of AWS
  provider = aws.us_east_1

  name         = "${var.name}-on-call"
  display_name = var.name
}

resource "aws_sns_topic_subscription" "on_call" {
  provider = aws.us_east_1
  for_each = toset(var.on_call)

  topic_arn = aws_sns_topic.on_call.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_metric_alarm" "page_unreachable" {
  provider = aws.us_east_1

  alarm_name        = "${var.name}-page-unreachable"
  alarm_description = "Visitors cannot reach the page, or it cannot serve them. Next: docs/runbooks/page-unreachable.md"

  namespace           = "AWS/Route53"
  metric_name         = "HealthCheckStatus"
  dimensions          = { HealthCheckId = aws_route53_health_check.service.id }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching" # a silent check proves nothing

  alarm_actions = [aws_sns_topic.on_call.arn]
  ok_actions    = [aws_sns_topic.on_call.arn]
}
