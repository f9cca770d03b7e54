# Policies of the service, applied to a mocked provider.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_ami" {
    defaults = {
      id               = "ami-0123456789abcdef0"
      root_device_name = "/dev/xvda"
      tags             = { Released = "true", Version = "1.2.3+build.4" }
    }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/visitors-test-instance" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/visitors-test-instance" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/visitors-test/0123456789abcdef" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/visitors-test/0123456789abcdef" }
  }
  mock_resource "aws_wafv2_web_acl" {
    defaults = { arn = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/visitors-test/0" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::visitors-test-access-logs-123456789012" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/visitors/test" }
  }
}

variables {
  name                        = "visitors-test"
  parameter_prefix            = "/visitors/test"
  ami_id                      = "ami-0123456789abcdef0"
  deploy_number               = 7
  instance_type               = "t3.small"
  volume_gib                  = 8
  volume_initialization_rate  = 100
  capacity                    = { min = 2, max = 6 }
  requests_per_instance       = 3000
  visitor_key_secret_arn      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:visitors/test/visitor-key-1"
  retention_days              = 365
  log_days                    = 30
  vpc_id                      = "vpc-0123456789abcdef0"
  public_subnet_ids           = ["subnet-00000000000000001", "subnet-00000000000000002"]
  private_subnet_ids          = ["subnet-00000000000000003", "subnet-00000000000000004"]
  endpoints_security_group_id = "sg-00000000000000001"
  has_nat                     = false
  certificate_arn             = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
  requests_per_client         = 2000
  deletion_protection         = true
  database = {
    address           = "visitors-test.example.eu-central-1.rds.amazonaws.com"
    port              = 5432
    database          = "visitors"
    owner             = "visitors_owner"
    owner_secret_arn  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
    resource_id       = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    security_group_id = "sg-00000000000000002"
  }
  permissions_boundary_arn = "arn:aws:iam::123456789012:policy/visitors-test-boundary"
}

run "an_instance_learns_its_names_and_no_secret_from_its_user_data" {
  assert {
    condition = base64decode(aws_launch_template.this.user_data) == templatefile("../../../instance/user-data.tftpl", {
      environment = join("\n", [
        "AUTO_SCALING_GROUP=visitors-test",
        "AWS_REGION=eu-central-1",
        "DEPLOY_ID=7/ami-0123456789abcdef0",
        "LIFECYCLE_HOOK=boot",
        "LOG_GROUP=/visitors/test",
        "PARAMETER_PREFIX=/visitors/test",
      ])
    })
    error_message = "An instance would get other names than docs/instance.md lists, or a secret that every process on it can read."
  }
}

run "an_instance_keeps_its_credentials_to_itself" {
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "A forged request or a container behind a bridge could read the instance's credentials."
  }
  assert {
    condition     = aws_launch_template.this.network_interfaces[0].associate_public_ip_address == "false"
    error_message = "Instances would have public addresses."
  }
}

run "an_instance_that_turns_itself_off_is_gone" {
  assert {
    condition     = aws_launch_template.this.instance_initiated_shutdown_behavior == "terminate"
    error_message = "An instance that cannot serve would remain, stopped and paid for."
  }
}

run "only_the_load_balancer_reaches_the_application" {
  assert {
    condition     = aws_vpc_security_group_ingress_rule.instances_from_load_balancer.cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.instances_from_load_balancer.from_port == 8000 && aws_vpc_security_group_ingress_rule.instances_from_load_balancer.to_port == 8000
    error_message = "A client that reaches the port could choose the address under which it counts."
  }
}

run "the_internet_reaches_two_ports_of_the_load_balancer" {
  assert {
    condition     = toset([for rule in concat(values(aws_vpc_security_group_ingress_rule.internet_ipv4), values(aws_vpc_security_group_ingress_rule.internet_ipv6)) : "${rule.from_port}-${rule.to_port}"]) == toset(["80-80", "443-443"])
    error_message = "Another port than 80 and 443 would be open to the internet."
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.instances_to_internet) == 0
    error_message = "Without NAT there is no reason for a rule towards the internet."
  }
}

run "the_role_of_an_instance_allows_exactly_what_its_boot_needs" {
  assert {
    condition = jsondecode(aws_iam_role_policy.instance.policy).Statement == [
      {
        Sid    = "ReadSettings"
        Effect = "Allow"
        Action = "ssm:GetParametersByPath"
        Resource = [
          "arn:aws:ssm:eu-central-1:123456789012:parameter/visitors/test/settings",
          "arn:aws:ssm:eu-central-1:123456789012:parameter/visitors/test/secrets",
        ]
      },
      {
        Sid    = "ReadSecrets"
        Effect = "Allow"
        Action = "secretsmanager:GetSecretValue"
        Resource = [
          "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1",
          "arn:aws:secretsmanager:eu-central-1:123456789012:secret:visitors/test/visitor-key-1",
        ]
      },
      {
        Sid      = "SignInToDatabase"
        Effect   = "Allow"
        Action   = "rds-db:connect"
        Resource = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABCDEFGHIJKLMNOPQRSTUVWXYZ/visitors_app"
      },
      {
        Sid      = "CompleteBoot"
        Effect   = "Allow"
        Action   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
        Resource = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:*:autoScalingGroupName/visitors-test"
      },
      {
        Sid      = "LookAtOwnHealth"
        Effect   = "Allow"
        Action   = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "elasticloadbalancing:DescribeTargetHealth"]
        Resource = "*"
      },
      {
        Sid       = "SendMetrics"
        Effect    = "Allow"
        Action    = "cloudwatch:PutMetricData"
        Resource  = "*"
        Condition = { StringEquals = { "cloudwatch:namespace" = "Visitors" } }
      },
      {
        Sid      = "SendLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "arn:aws:logs:eu-central-1:123456789012:log-group:/visitors/test:*"
      },
    ]
    error_message = "An attacker on an instance could do more than boot and serve, or a boot would lack a permission."
  }
}

run "the_role_of_an_instance_has_the_boundary" {
  assert {
    condition     = aws_iam_role.instance.permissions_boundary == "arn:aws:iam::123456789012:policy/visitors-test-boundary"
    error_message = "The pipeline's role may not create the instances' role."
  }
}

run "the_group_replaces_what_the_load_balancer_calls_unhealthy_and_abandons_a_silent_boot" {
  assert {
    condition     = aws_autoscaling_group.this.health_check_type == "ELB" && one(aws_autoscaling_group.this.initial_lifecycle_hook).default_result == "ABANDON"
    error_message = "A dead application, or an instance that never finished its boot, would stay in service."
  }
}

run "liveness_and_not_readiness_decides_about_instances" {
  assert {
    condition     = aws_lb_target_group.this.health_check[0].path == "/livez"
    error_message = "A database outage would make the group replace every instance, again and again."
  }
}

run "answers_are_finished_before_an_instance_leaves" {
  assert {
    condition     = tonumber(aws_lb_target_group.this.deregistration_delay) > 8 && aws_lb.this.idle_timeout < 75
    error_message = "gunicorn needs 8 s for its last answers, and must keep idle connections (75 s) for longer than the load balancer does."
  }
}

run "plain_http_redirects_and_tls_speaks_1_2_for_the_health_checkers" {
  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && aws_lb_listener.http.default_action[0].redirect[0].protocol == "HTTPS"
    error_message = "Pages would be served without TLS."
  }
  assert {
    condition     = strcontains(aws_lb_listener.https.ssl_policy, "TLS13-1-2")
    error_message = "Route 53's health checkers speak TLS 1.2 and would call the page unreachable."
  }
}

run "parameters_hold_names_of_secrets_only" {
  assert {
    condition = { for name, parameter in aws_ssm_parameter.secrets : name => parameter.value } == {
      MIGRATION_DATABASE_PASSWORD = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
      VISITOR_KEY                 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:visitors/test/visitor-key-1"
    }
    error_message = "A secret itself would stand in the Parameter Store and in Terraform's state."
  }
  assert {
    condition     = alltrue([for parameter in concat(values(aws_ssm_parameter.settings), values(aws_ssm_parameter.secrets)) : parameter.type == "String"])
    error_message = "instance/ reads parameters of type String only."
  }
}

run "with_nat_instances_reach_the_internet_by_tls_only" {
  variables {
    has_nat = true
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.instances_to_internet[0].from_port == 443 && length(aws_vpc_security_group_egress_rule.instances_to_endpoints) == 0
    error_message = "With NAT the AWS APIs are reached by TLS, and there are no endpoints."
  }
}

run "without_a_limit_there_is_no_waf" {
  command = plan
  variables {
    requests_per_client = null
  }
  assert {
    condition     = length(aws_wafv2_web_acl.this) == 0
    error_message = "A web ACL costs money every month."
  }
}

run "an_ami_that_is_not_released_is_refused" {
  command = plan
  override_data {
    target = data.aws_ami.this
    values = {
      id               = "ami-0123456789abcdef0"
      root_device_name = "/dev/xvda"
      tags             = { Released = "false" }
    }
  }
  expect_failures = [data.aws_ami.this]
}

run "an_ami_by_parameter_is_refused" {
  command = plan
  variables {
    ami_id = "resolve:ssm:/visitors/ami"
  }
  expect_failures = [var.ami_id]
}

run "a_secret_among_the_settings_is_refused" {
  command = plan
  variables {
    application_settings = { VISITOR_KEY = "0" }
  }
  expect_failures = [var.application_settings]
}

run "an_environment_that_is_not_the_sdks_is_refused" {
  command = plan
  variables {
    instance_environment = { SELFTEST = "1" }
  }
  expect_failures = [var.instance_environment]
}

run "a_capacity_that_crosses_itself_is_refused" {
  command = plan
  variables {
    capacity = { min = 3, max = 2 }
  }
  expect_failures = [var.capacity]
}

run "a_retention_shorter_than_the_chart_is_refused" {
  command = plan
  variables {
    retention_days = 7
  }
  expect_failures = [var.retention_days]
}
