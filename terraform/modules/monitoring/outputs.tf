output "roll_alarm_names" {
  description = "Alarms that stop a roll: those for faults that a release can cause. At most ten, AWS's limit."
  value = sort(concat([aws_cloudwatch_metric_alarm.error_ratio.alarm_name], [
    for name in ["slow-answers", "migration-failed", "database-connections"] :
    aws_cloudwatch_metric_alarm.this[name].alarm_name
  ]))
}

output "alarm_names" {
  description = "All alarms of this region."
  value       = sort(concat([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name], [aws_cloudwatch_metric_alarm.error_ratio.alarm_name]))
}

output "topic_arn" {
  description = "Topic of the people on call."
  value       = aws_sns_topic.on_call.arn
}
