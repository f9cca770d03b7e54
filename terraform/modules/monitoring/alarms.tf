# The alarms that wake the person on call. Each has the runbook docs/runbooks/NAME.md; a test compares the names.
#
# `missing` is the treatment of missing data: notBreaching for metrics that exist only when something happens, or if
# another alarm (page-unreachable) rings for the same silence; breaching if silence itself is the fault.

locals {
  load_balancer = { LoadBalancer = var.load_balancer_arn_suffix }
  target_group  = { LoadBalancer = var.load_balancer_arn_suffix, TargetGroup = var.target_group_arn_suffix }
  # Two installations of one account count in the same namespace.
  group    = { AutoScalingGroupName = var.group_name }
  database = { DBInstanceIdentifier = var.database_identifier }

  alarms = {
    slow-answers = {
      description = "One answer in twenty takes longer than a second."
      namespace   = "AWS/ApplicationELB", metric = "TargetResponseTime", dimensions = local.load_balancer
      statistic   = "p95", period = 60, periods = 5, datapoints = 4
      comparison  = "GreaterThanThreshold", threshold = 1, missing = "notBreaching"
    }
    unhealthy-instances = {
      description = "The load balancer calls an instance unhealthy and the group has not replaced it within three minutes."
      namespace   = "AWS/ApplicationELB", metric = "UnHealthyHostCount", dimensions = local.target_group
      statistic   = "Maximum", period = 60, periods = 3, datapoints = 3
      comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
    }
    too-few-instances = {
      description = "Fewer instances serve than the group's minimum."
      namespace   = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = local.target_group
      statistic   = "Minimum", period = 60, periods = 5, datapoints = 5
      comparison  = "LessThanThreshold", threshold = var.fewest_instances, missing = "breaching"
    }
    migration-failed = {
      description = "A release could not migrate the schema; its instances do not serve, the old ones do."
      namespace   = "Visitors", metric = "MigrationFailed", dimensions = local.group
      statistic   = "Sum", period = 60, periods = 1, datapoints = 1
      comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
    }
    # The group retries a single failed boot by itself.
    boot-failed = {
      description = "Two instances or more failed to boot within a quarter of an hour."
      namespace   = "Visitors", metric = "BootFailed", dimensions = local.group
      statistic   = "Sum", period = 900, periods = 1, datapoints = 1
      comparison  = "GreaterThanThreshold", threshold = 1, missing = "notBreaching"
    }
    # The maximum of all instances, so one of them suffices.
    instance-memory = {
      description = "An instance has less than a tenth of its memory left."
      namespace   = "Visitors", metric = "MemoryUsed", dimensions = local.group
      statistic   = "Maximum", period = 300, periods = 3, datapoints = 3
      comparison  = "GreaterThanThreshold", threshold = 90, missing = "notBreaching"
    }
    instance-disk = {
      description = "An instance has less than a fifth of its disk left."
      namespace   = "Visitors", metric = "DiskUsed", dimensions = local.group
      statistic   = "Maximum", period = 300, periods = 3, datapoints = 3
      comparison  = "GreaterThanThreshold", threshold = 80, missing = "notBreaching"
    }
    database-storage = {
      description = "The database has less than 2 GiB of free storage, although RDS enlarges it by itself."
      namespace   = "AWS/RDS", metric = "FreeStorageSpace", dimensions = local.database
      statistic   = "Minimum", period = 300, periods = 2, datapoints = 2
      comparison  = "LessThanThreshold", threshold = 2 * 1024 * 1024 * 1024, missing = "notBreaching"
    }
    database-connections = {
      description = "The database has less than a fifth of its connections left; a roll doubles the instances."
      namespace   = "AWS/RDS", metric = "DatabaseConnections", dimensions = local.database
      statistic   = "Maximum", period = 60, periods = 5, datapoints = 3
      comparison  = "GreaterThanThreshold", threshold = floor(0.8 * var.database_connections), missing = "notBreaching"
    }
    database-cpu = {
      description = "The database's processors are busy for more than 80 % of a quarter of an hour."
      namespace   = "AWS/RDS", metric = "CPUUtilization", dimensions = local.database
      statistic   = "Average", period = 300, periods = 3, datapoints = 3
      comparison  = "GreaterThanThreshold", threshold = 80, missing = "notBreaching"
    }
    # ACM renews 60 days before the end, so this alarm leaves a person three weeks.
    certificate-expiry = {
      description = "The certificate ends within three weeks and ACM has not renewed it."
      namespace   = "AWS/CertificateManager", metric = "DaysToExpiry", dimensions = { CertificateArn = var.certificate_arn }
      statistic   = "Minimum", period = 86400, periods = 1, datapoints = 1
      comparison  = "LessThanThreshold", threshold = 21, missing = "notBreaching"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.name}-${each.key}"
  alarm_description = "${each.value.description} Next: docs/runbooks/${each.key}.md"

  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  period              = each.value.period
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.datapoints
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing

  # A percentile of a handful of requests means nothing.
  evaluate_low_sample_count_percentiles = startswith(each.value.statistic, "p") ? "ignore" : null

  alarm_actions = [aws_sns_topic.on_call.arn]
  ok_actions    = [aws_sns_topic.on_call.arn]
}

# A share and not a count, because ten errors of a thousand requests are harmless and ten of ten are not.
resource "aws_cloudwatch_metric_alarm" "error_ratio" {
  alarm_name        = "${var.name}-error-ratio"
  alarm_description = "More than 2 % of the requests end with a server's error. Next: docs/runbooks/error-ratio.md"

  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  treat_missing_data  = "notBreaching" # no request, no error

  metric_query {
    id          = "ratio"
    label       = "5xx answers in % of all requests"
    expression  = "IF(FILL(requests, 0) > 20, 100 * (FILL(application, 0) + FILL(balancer, 0) - FILL(in_advance, 0)) / requests, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      requests    = "RequestCount"
      application = "HTTPCode_Target_5XX_Count"
      balancer    = "HTTPCode_ELB_5XX_Count"
    }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value
        dimensions  = local.load_balancer
        period      = 60
        stat        = "Sum"
      }
    }
  }

  # A browser that fetches the page before its user opens it is refused with 503, which is no failure.
  metric_query {
    id = "in_advance"
    metric {
      namespace   = aws_cloudwatch_log_metric_filter.in_advance.metric_transformation[0].namespace
      metric_name = aws_cloudwatch_log_metric_filter.in_advance.metric_transformation[0].name
      period      = 60
      stat        = "Sum"
    }
  }

  alarm_actions = [aws_sns_topic.on_call.arn]
  ok_actions    = [aws_sns_topic.on_call.arn]
}
