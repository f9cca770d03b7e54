# The way from an alarm, or from an instance refresh that did not succeed, to the person on call.

data "aws_caller_identity" "current" {}

resource "aws_sns_topic" "on_call" {
  # checkov:skip=CKV_AWS_26: an alarm holds no secret, and CloudWatch cannot publish to a topic with the key of AWS
  name         = "${var.name}-on-call"
  display_name = var.name
}

resource "aws_sns_topic_subscription" "on_call" {
  for_each = toset(var.on_call)

  topic_arn = aws_sns_topic.on_call.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_sns_topic_policy" "on_call" {
  arn = aws_sns_topic.on_call.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      for service in ["cloudwatch", "events"] : {
        Sid       = title(service)
        Effect    = "Allow"
        Action    = "sns:Publish"
        Principal = { Service = "${service}.amazonaws.com" }
        Resource  = aws_sns_topic.on_call.arn
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      }
    ]
  })
}

# https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-autoscaling.html
resource "aws_cloudwatch_event_rule" "refresh_failed" {
  name        = "${var.name}-refresh-failed"
  description = "An instance refresh failed, was cancelled or is rolled back. Next: docs/runbooks/refresh-failed.md"
  event_pattern = jsonencode({
    source = ["aws.autoscaling"]
    detail-type = [
      "EC2 Auto Scaling Instance Refresh Cancelled",
      "EC2 Auto Scaling Instance Refresh Failed",
      "EC2 Auto Scaling Instance Refresh Rollback Failed",
      "EC2 Auto Scaling Instance Refresh Rollback Started",
      "EC2 Auto Scaling Instance Refresh Rollback Succeeded",
    ]
    detail = { AutoScalingGroupName = [var.group_name] }
  })
}

resource "aws_cloudwatch_event_target" "refresh_failed" {
  rule      = aws_cloudwatch_event_rule.refresh_failed.name
  target_id = "on-call"
  arn       = aws_sns_topic.on_call.arn

  input_transformer {
    input_paths = {
      event   = "$.detail-type"
      group   = "$.detail.AutoScalingGroupName"
      refresh = "$.detail.InstanceRefreshId"
    }
    input_template = "\"<event>: group <group>, refresh <refresh>. Next: docs/runbooks/refresh-failed.md\""
  }
}
