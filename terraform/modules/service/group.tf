# The Auto Scaling group. Terraform creates it; a roll changes its template, and scaling its capacity.

resource "aws_autoscaling_group" "this" {
  name                = var.name
  min_size            = var.capacity.min
  max_size            = var.capacity.max
  desired_capacity    = var.capacity.min
  vpc_zone_identifier = var.private_subnet_ids
  target_group_arns   = [aws_lb_target_group.this.arn]

  # A number, not $Latest, because AWS can roll back to a numbered version only.
  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # An instance serves after it completes the hook; after ten minutes of silence it is replaced.
  initial_lifecycle_hook {
    name                 = local.lifecycle_hook
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = 600
    default_result       = "ABANDON"
  }

  # The hook waits for the boot, so health counts from the first second in service.
  health_check_type         = "ELB"
  health_check_grace_period = 0
  default_instance_warmup   = 60

  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 200
  }

  metrics_granularity = "1Minute"
  enabled_metrics     = ["GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupTotalInstances"]

  wait_for_capacity_timeout = "20m"

  dynamic "tag" {
    for_each = { Name = var.name, Project = "visitors" }
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false # the launch template tags instances, volumes and interfaces alike
    }
  }

  lifecycle {
    # No `instance_refresh` block: it does not wait, and its rollback returns to the new version.
    # https://github.com/hashicorp/terraform-provider-aws/issues/34189
    ignore_changes = [launch_template, desired_capacity]
  }

  # Everything that a booting instance reads or needs; otherwise the first instances would fail to boot.
  depends_on = [
    aws_iam_role_policy.instance,
    aws_lb_listener.https,
    aws_ssm_parameter.secrets,
    aws_ssm_parameter.settings,
    aws_vpc_security_group_egress_rule.instances_to_database,
    aws_vpc_security_group_egress_rule.instances_to_endpoints,
    aws_vpc_security_group_egress_rule.instances_to_internet,
    aws_vpc_security_group_egress_rule.load_balancer_to_instances,
    aws_vpc_security_group_ingress_rule.database_from_instances,
    aws_vpc_security_group_ingress_rule.endpoints_from_instances,
    aws_vpc_security_group_ingress_rule.instances_from_load_balancer,
  ]
}

resource "aws_autoscaling_policy" "requests" {
  name                   = "requests"
  autoscaling_group_name = aws_autoscaling_group.this.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = var.requests_per_instance
    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.this.arn_suffix}/${aws_lb_target_group.this.arn_suffix}"
    }
  }
}

resource "aws_autoscaling_policy" "cpu" {
  name                   = "cpu"
  autoscaling_group_name = aws_autoscaling_group.this.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = 60
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

resource "aws_autoscaling_schedule" "this" {
  for_each = var.scheduled_capacity

  scheduled_action_name  = each.key
  autoscaling_group_name = aws_autoscaling_group.this.name
  recurrence             = each.value.recurrence
  time_zone              = each.value.time_zone
  min_size               = each.value.min
  max_size               = each.value.max
  desired_capacity       = -1 # unchanged
}
