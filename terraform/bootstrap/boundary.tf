# The permissions boundary of each environment: the most that a role of its stack can be allowed. `visitors-apply-ENVIRONMENT`
# writes the policies of these roles, and can neither omit the boundary nor change it.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html

locals {
  boundaries = { for environment in keys(var.environments) : environment => [
    {
      Sid      = "ReadSettings"
      Effect   = "Allow"
      Action   = "ssm:GetParametersByPath"
      Resource = "arn:aws:ssm:${var.region}:${local.account}:parameter/visitors/${environment}/*"
    },
    {
      # RDS chooses the name of the owner's secret, so the boundary covers the databases of all environments.
      Sid    = "ReadSecrets"
      Effect = "Allow"
      Action = "secretsmanager:GetSecretValue"
      Resource = [
        "arn:aws:secretsmanager:${var.region}:${local.account}:secret:rds!db-*",
        local.installations[environment].visitor_key,
      ]
    },
    {
      Sid      = "SignInToDatabase"
      Effect   = "Allow"
      Action   = "rds-db:connect"
      Resource = "arn:aws:rds-db:${var.region}:${local.account}:dbuser:*/visitors_app"
    },
    {
      Sid      = "CompleteBoot"
      Effect   = "Allow"
      Action   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
      Resource = local.installations[environment].group
    },
    {
      # These actions accept no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/
      Sid    = "LookAtHealth"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "elasticloadbalancing:DescribeTargetHealth",
      ]
      Resource  = "*"
      Condition = local.in_region
    },
    {
      Sid       = "SendMetrics"
      Effect    = "Allow"
      Action    = "cloudwatch:PutMetricData"
      Resource  = "*"
      Condition = { StringEquals = { "cloudwatch:namespace" = "Visitors" } }
    },
    {
      Sid    = "SendLogs"
      Effect = "Allow"
      Action = [
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
      ]
      Resource = local.installations[environment].log_groups
    },
  ] }
}

resource "aws_iam_policy" "boundary" {
  for_each = local.boundaries

  name        = "visitors-${each.key}-boundary"
  description = "The most that a role of the stack ${each.key} can be allowed"
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value })
}
