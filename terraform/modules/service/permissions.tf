# Permissions of an instance: docs/instance.md has the same table, with the reasons.

locals {
  account = data.aws_caller_identity.current.account_id
  region  = data.aws_region.current.name
  # By name and not by reference, because the group needs the role's profile before it exists.
  group_arn = "arn:aws:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${var.name}"
}

data "aws_region" "current" {}

resource "aws_iam_role" "instance" {
  name                 = "${var.name}-instance"
  permissions_boundary = var.permissions_boundary_arn
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_instance_profile" "instance" {
  name = "${var.name}-instance"
  role = aws_iam_role.instance.name
}

resource "aws_iam_role_policy" "instance" {
  name = "boot-and-serve"
  role = aws_iam_role.instance.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadSettings"
        Effect   = "Allow"
        Action   = "ssm:GetParametersByPath"
        Resource = [for kind in ["settings", "secrets"] : "arn:aws:ssm:${local.region}:${local.account}:parameter${var.parameter_prefix}/${kind}"]
      },
      {
        Sid      = "ReadSecrets"
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = values(local.secrets)
      },
      {
        Sid      = "SignInToDatabase"
        Effect   = "Allow"
        Action   = "rds-db:connect"
        Resource = "arn:aws:rds-db:${local.region}:${local.account}:dbuser:${var.database.resource_id}/${local.database_user}"
      },
      {
        Sid      = "CompleteBoot"
        Effect   = "Allow"
        Action   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
        Resource = local.group_arn
      },
      {
        # These actions accept no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/
        Sid    = "LookAtOwnHealth"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeAutoScalingInstances",
          "elasticloadbalancing:DescribeTargetHealth",
        ]
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
        Resource = "${aws_cloudwatch_log_group.instances.arn}:*"
      },
    ]
  })
}
