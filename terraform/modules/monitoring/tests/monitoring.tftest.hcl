# Policies of the alarms, applied to a mocked provider.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:visitors-test-on-call" }
  }
}

variables {
  name                     = "visitors-test"
  on_call                  = ["on-call@example.com"]
  group_name               = "visitors-test"
  fewest_instances         = 2
  load_balancer_arn_suffix = "app/visitors-test/0123456789abcdef"
  target_group_arn_suffix  = "targetgroup/visitors-test/0123456789abcdef"
  database_identifier      = "visitors-test"
  database_connections     = 200
  certificate_arn          = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
  log_group_name           = "/visitors/test"
}

run "every_alarm_is_sent_when_it_begins_and_when_it_ends" {
  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), [aws_cloudwatch_metric_alarm.error_ratio]) :
      alarm.alarm_actions == toset([aws_sns_topic.on_call.arn]) && alarm.ok_actions == toset([aws_sns_topic.on_call.arn])
    ])
    error_message = "The person on call would not learn of an alarm, or not of its end."
  }
}

run "every_alarm_names_its_runbook_and_no_two_have_the_same_name" {
  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), [aws_cloudwatch_metric_alarm.error_ratio]) :
      endswith(alarm.alarm_description, "Next: docs/runbooks/${trimprefix(alarm.alarm_name, "visitors-test-")}.md")
    ])
    error_message = "The message at night would not name the next step."
  }
  assert {
    condition     = length(distinct(output.alarm_names)) == length(output.alarm_names)
    error_message = "One alarm would hide another."
  }
}

run "a_missing_heartbeat_of_the_fleet_is_an_alarm_and_a_missing_error_is_none" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["too-few-instances"].treat_missing_data == "breaching"
    error_message = "A load balancer without targets reports nothing, and silence would look healthy."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["migration-failed"].treat_missing_data == "notBreaching"
    error_message = "The metric exists only when a migration has failed, so the alarm would always ring."
  }
}

run "thresholds_follow_the_size_of_the_installation" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["too-few-instances"].threshold == 2 && aws_cloudwatch_metric_alarm.this["database-connections"].threshold == 160
    error_message = "An alarm would ring too late or always."
  }
}

run "an_installation_rings_for_its_own_instances_only" {
  assert {
    condition = alltrue([
      for name in ["migration-failed", "boot-failed", "instance-memory", "instance-disk"] :
      aws_cloudwatch_metric_alarm.this[name].dimensions == tomap({ AutoScalingGroupName = "visitors-test" })
    ])
    error_message = "A failed boot of staging would wake the person on call for production."
  }
  assert {
    condition     = aws_cloudwatch_log_metric_filter.page_views.metric_transformation[0].namespace == "visitors-test"
    error_message = "The dashboard would add the page views of all installations."
  }
}

run "a_few_requests_at_night_do_not_ring_by_one_error" {
  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.error_ratio.metric_query : query.expression if query.id == "ratio"] == ["IF(FILL(requests, 0) > 20, 100 * (FILL(application, 0) + FILL(balancer, 0) - FILL(in_advance, 0)) / requests, 0)"]
    error_message = "One error among three requests would wake a person, and so would browsers that fetch the page in advance."
  }
}

run "a_refresh_that_does_not_succeed_is_reported" {
  assert {
    condition     = length(jsondecode(aws_cloudwatch_event_rule.refresh_failed.event_pattern)["detail-type"]) == 5 && jsondecode(aws_cloudwatch_event_rule.refresh_failed.event_pattern).detail.AutoScalingGroupName == ["visitors-test"]
    error_message = "A roll that AWS undoes at night would go unnoticed, or another group's would ring here."
  }
}

run "only_this_account_may_publish_alarms" {
  assert {
    condition = jsondecode(aws_sns_topic_policy.on_call.policy).Statement == [
      for service in ["cloudwatch", "events"] : {
        Sid       = title(service)
        Effect    = "Allow"
        Action    = "sns:Publish"
        Principal = { Service = "${service}.amazonaws.com" }
        Resource  = "arn:aws:sns:eu-central-1:123456789012:visitors-test-on-call"
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }
    ]
    error_message = "Another account could ring the on-call phone."
  }
}

run "alarms_that_stop_a_roll_are_few_enough_for_aws" {
  assert {
    condition     = length(output.roll_alarm_names) > 0 && length(output.roll_alarm_names) <= 10 && length(setsubtract(output.roll_alarm_names, output.alarm_names)) == 0
    error_message = "StartInstanceRefresh takes one to ten alarms that exist."
  }
}

run "the_dashboard_shows_the_four_golden_signals_first" {
  assert {
    condition     = [for widget in slice(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets, 0, 4) : split(":", widget.properties.title)[0]] == ["Traffic", "Errors a minute", "Latency", "Saturation"]
    error_message = "The person on call would have to search for the effects on visitors."
  }
}

run "an_empty_on_call_list_is_refused" {
  command = plan
  variables {
    on_call = []
  }
  expect_failures = [var.on_call]
}
