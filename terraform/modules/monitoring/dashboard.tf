# One screen for the person on call: effects on visitors, then the instances, then the database.

data "aws_region" "current" {}

# Counted from the log and not from the load balancer, which counts health checks and bots too.
resource "aws_cloudwatch_log_metric_filter" "page_views" {
  name           = "page-views"
  log_group_name = var.log_group_name
  pattern        = "{ $.method = \"GET\" && $.path = \"/\" && $.status = 200 }"

  metric_transformation {
    namespace     = var.name # a metric filter has no dimensions of its own
    name          = "PageViews"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_log_metric_filter" "in_advance" {
  name           = "requests-in-advance"
  log_group_name = var.log_group_name
  pattern        = "{ $.in_advance IS TRUE }"

  metric_transformation {
    namespace     = var.name
    name          = "RequestsInAdvance"
    value         = "1"
    default_value = "0"
  }
}

locals {
  region   = data.aws_region.current.name
  balancer = ["LoadBalancer", var.load_balancer_arn_suffix]
  targets  = concat(["TargetGroup", var.target_group_arn_suffix], local.balancer)

  # Four golden signals first, each with its causes below; 12 of 24 columns wide.
  widgets = [
    { title = "Traffic: requests a minute", stat = "Sum", metrics = [
      concat(["AWS/ApplicationELB", "RequestCount"], local.balancer),
      [var.name, "PageViews"],
    ] },
    { title = "Errors a minute", stat = "Sum", metrics = [
      for code in ["HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_4XX_Count"] :
      concat(["AWS/ApplicationELB", code], local.balancer)
    ] },
    { title = "Latency: median and p95, in seconds", stat = "p95", metrics = [
      concat(["AWS/ApplicationELB", "TargetResponseTime"], local.balancer),
      concat(["AWS/ApplicationELB", "TargetResponseTime"], local.balancer, [{ stat = "p50" }]),
    ] },
    { title = "Saturation: processors of instances and database, in %", stat = "Average", metrics = [
      ["AWS/EC2", "CPUUtilization", "AutoScalingGroupName", var.group_name],
      ["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", var.database_identifier],
    ] },
    { title = "Instances: wanted, booting, in service, healthy", stat = "Average", metrics = concat(
      [for metric in ["GroupDesiredCapacity", "GroupPendingInstances", "GroupInServiceInstances"] :
      ["AWS/AutoScaling", metric, "AutoScalingGroupName", var.group_name]],
      [concat(["AWS/ApplicationELB", "HealthyHostCount"], local.targets)],
    ) },
    { title = "Boots and migrations that failed", stat = "Sum", metrics = [
      ["Visitors", "BootFailed", "AutoScalingGroupName", var.group_name],
      ["Visitors", "MigrationFailed", "AutoScalingGroupName", var.group_name],
    ] },
    { title = "Memory and disk of the fullest instance, in %", stat = "Maximum", metrics = [
      ["Visitors", "MemoryUsed", "AutoScalingGroupName", var.group_name],
      ["Visitors", "DiskUsed", "AutoScalingGroupName", var.group_name],
    ] },
    { title = "Connections to the database", stat = "Maximum", metrics = [
      ["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", var.database_identifier],
    ] },
    { title = "Free storage of the database, in bytes", stat = "Minimum", metrics = [
      ["AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", var.database_identifier],
    ] },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for place, widget in local.widgets : {
        type   = "metric"
        x      = 12 * (place % 2)
        y      = 6 * floor(place / 2)
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          region  = local.region
          view    = "timeSeries"
          period  = 60
          stat    = widget.stat
          metrics = widget.metrics
        }
      }
    ]
  })
}
