output "load_balancer" {
  description = "The load balancer: its names in DNS and in metrics."
  value = {
    dns_name   = aws_lb.this.dns_name
    zone_id    = aws_lb.this.zone_id
    arn_suffix = aws_lb.this.arn_suffix
  }
}

output "target_group_arn_suffix" {
  description = "Name of the target group in its metrics."
  value       = aws_lb_target_group.this.arn_suffix
}

output "group_name" {
  description = "Name of the Auto Scaling group."
  value       = aws_autoscaling_group.this.name
}

output "launch_template" {
  description = "The launch template's id and newest version, which a roll brings to the instances."
  value = {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
}

output "log_group_name" {
  description = "Log group of the instances' journals."
  value       = aws_cloudwatch_log_group.instances.name
}
