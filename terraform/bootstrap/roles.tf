# The roles of the pipeline: one to bake, one to prune, and three for each environment, to review, to plan and to apply.
#
# `aud` and `sub` are the only claims of a token of GitLab that a condition can read here: AWS validates the claims of some
# other issuers only, and `sub` names project and branch. So each role has an audience of its own, its name. That
# separates stages and environments against mistakes; against malice the border is a protected branch of GitLab.
# docs/decisions/0021-one-role-for-each-stage.md
#
# `Resource = "*"` stands only where AWS accepts nothing else; "The Service Authorization Reference" lists each action
# with its resources and condition keys: https://docs.aws.amazon.com/service-authorization/latest/reference/

locals {
  account = data.aws_caller_identity.current.account_id
  issuer  = trimprefix(var.gitlab_url, "https://")
  subject = "project_path:${var.gitlab_project}:ref_type:branch:ref:"

  # The health check's topic and alarm are in Route 53's own region.
  regions    = distinct([var.region, "us-east-1"])
  in_region  = { StringEquals = { "aws:RequestedRegion" = var.region } }
  in_regions = { StringEquals = { "aws:RequestedRegion" = local.regions } }

  # The environment of each role; the roles that bake and prune serve all of them.
  review_roles = { for environment in keys(var.environments) : "visitors-review-${environment}" => environment }
  plan_roles   = { for environment in keys(var.environments) : "visitors-plan-${environment}" => environment }
  apply_roles  = { for environment in keys(var.environments) : "visitors-apply-${environment}" => environment }
  roles        = concat(["visitors-bake", "visitors-prune"], keys(local.review_roles), keys(local.plan_roles), keys(local.apply_roles))
  is_review    = { for role in local.roles : role => contains(keys(local.review_roles), role) }
}

resource "aws_iam_role" "pipeline" {
  for_each = toset(local.roles)

  name        = each.key
  description = "Jobs of ${var.gitlab_project} on ${local.is_review[each.key] ? "any branch" : var.branch}, by tokens for the audience ${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = aws_iam_openid_connect_provider.gitlab.arn }
      # A merge request's token names its source branch. A fork's token names the fork, so a fork takes no role.
      Condition = local.is_review[each.key] ? {
        StringEquals = { "${local.issuer}:aud" = each.key }
        StringLike   = { "${local.issuer}:sub" = "${local.subject}*" }
        } : {
        StringEquals = { "${local.issuer}:aud" = each.key, "${local.issuer}:sub" = "${local.subject}${var.branch}" }
      }
    }]
  })
}

# visitors-bake: the calls of release/ and of Packer's amazon-ebs source.

locals {
  # The tag Run is on everything that a bake makes, and on no instance that serves visitors.
  of_a_bake  = { StringEquals = { "aws:ResourceTag/Project" = "visitors" }, StringLike = { "aws:ResourceTag/Run" = "?*" } }
  for_a_bake = { StringEquals = { "aws:RequestTag/Project" = "visitors" }, StringLike = { "aws:RequestTag/Run" = "?*" } }
  ec2        = "arn:aws:ec2:${var.region}:${local.account}"
  # AMIs and their snapshots have no account in their ARNs.
  amis      = "arn:aws:ec2:${var.region}::image/*"
  snapshots = "arn:aws:ec2:${var.region}::snapshot/*"
  artefacts = "arn:aws:s3:::${local.buckets["artefacts"]}"
  # The resources that a bake creates.
  bake_resources = [
    local.amis,
    local.snapshots,
    "${local.ec2}:instance/*",
    "${local.ec2}:key-pair/packer-*",
    "${local.ec2}:security-group/*",
    "${local.ec2}:volume/*",
  ]
}

resource "aws_iam_role_policy" "bake" {
  name = "bake"
  role = aws_iam_role.pipeline["visitors-bake"].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # These actions accept no resource.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html
        Sid    = "Look"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeInstanceRefreshes",
          "autoscaling:DescribeLaunchConfigurations",
          "ec2:DescribeFleets",
          "ec2:DescribeImages",
          "ec2:DescribeInstances",
          "ec2:DescribeKeyPairs",
          "ec2:DescribeLaunchTemplateVersions",
          "ec2:DescribeSecurityGroups",
          "ec2:DescribeSnapshots",
          "ec2:DescribeSpotFleetRequests",
          "ec2:DescribeSpotInstanceRequests",
          "ec2:DescribeSubnets",
          "ec2:DescribeVolumes",
        ]
        Resource  = "*"
        Condition = local.in_region
      },
      {
        Sid       = "StartFromDebian"
        Effect    = "Allow"
        Action    = "ec2:RunInstances"
        Resource  = local.amis
        Condition = { StringEquals = { "ec2:Owner" = "136693071363" } } # packer/ami.pkr.hcl names the same account
      },
      {
        Sid       = "StartFromOwnAmi"
        Effect    = "Allow"
        Action    = "ec2:RunInstances"
        Resource  = local.amis
        Condition = local.of_a_bake
      },
      {
        # A copy that tests itself takes the default security group, and its network interface has no tags.
        Sid    = "StartInNetwork"
        Effect = "Allow"
        Action = "ec2:RunInstances"
        Resource = [
          "${local.ec2}:key-pair/packer-*",
          "${local.ec2}:network-interface/*",
          "${local.ec2}:security-group/*",
          "${local.ec2}:subnet/*",
        ]
      },
      {
        # Packer from 1.14 on tags them when it creates them; Debian's 1.6 does not, so this role refuses it.
        Sid       = "Create"
        Effect    = "Allow"
        Action    = ["ec2:CreateImage", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup", "ec2:RunInstances"]
        Resource  = local.bake_resources
        Condition = local.for_a_bake
      },
      {
        Sid      = "CreateInVpc"
        Effect   = "Allow"
        Action   = "ec2:CreateSecurityGroup"
        Resource = "${local.ec2}:vpc/*"
      },
      {
        # Only at the creation of a resource: otherwise the role could take over any other by tagging it.
        Sid      = "TagAtCreation"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = [local.amis, local.snapshots, "${local.ec2}:*/*"]
        Condition = { StringEquals = {
          "aws:RequestTag/Project" = "visitors"
          "ec2:CreateAction"       = ["CreateImage", "CreateKeyPair", "CreateSecurityGroup", "RunInstances"]
        } }
      },
      {
        Sid    = "ChangeOwn"
        Effect = "Allow"
        Action = [
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:CreateImage",
          "ec2:CreateTags",
          "ec2:DeleteKeyPair",
          "ec2:DeleteSecurityGroup",
          "ec2:DeleteSnapshot",
          "ec2:DeleteVolume",
          "ec2:DeregisterImage",
          "ec2:GetConsoleOutput",
          "ec2:ModifyImageAttribute",
          "ec2:ModifyInstanceAttribute",
          "ec2:StopInstances",
          "ec2:TerminateInstances",
        ]
        Resource  = local.bake_resources
        Condition = local.of_a_bake
      },
      {
        Sid      = "Lease"
        Effect   = "Allow"
        Action   = ["ssm:DeleteParameter", "ssm:GetParametersByPath", "ssm:PutParameter"]
        Resource = "arn:aws:ssm:${var.region}:${local.account}:parameter/visitors/bake/*"
      },
      {
        Sid      = "ListArtefacts"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = local.artefacts
      },
      {
        Sid      = "KeepArtefacts"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = "${local.artefacts}/*"
      },
    ]
  })
}

# visitors-prune: the calls of `release prune` and `release sweep`. It starts nothing.

resource "aws_iam_role_policy" "prune" {
  name = "prune"
  role = aws_iam_role.pipeline["visitors-prune"].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # These actions accept no resource.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html
        Sid    = "Look"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeInstanceRefreshes",
          "autoscaling:DescribeLaunchConfigurations",
          "ec2:DescribeFleets",
          "ec2:DescribeImageReferences",
          "ec2:DescribeImages",
          "ec2:DescribeInstances",
          "ec2:DescribeKeyPairs",
          "ec2:DescribeLaunchTemplateVersions",
          "ec2:DescribeLaunchTemplates",
          "ec2:DescribeSecurityGroups",
          "ec2:DescribeSnapshots",
          "ec2:DescribeSpotFleetRequests",
          "ec2:DescribeSpotInstanceRequests",
          "ec2:DescribeVolumes",
        ]
        Resource  = "*"
        Condition = local.in_region
      },
      {
        Sid    = "RemoveOwn"
        Effect = "Allow"
        Action = [
          "ec2:CreateTags",
          "ec2:DeleteKeyPair",
          "ec2:DeleteSecurityGroup",
          "ec2:DeleteSnapshot",
          "ec2:DeleteVolume",
          "ec2:DeregisterImage",
          "ec2:TerminateInstances",
        ]
        Resource  = local.bake_resources
        Condition = local.of_a_bake
      },
      {
        Sid       = "RemoveTemplateVersions"
        Effect    = "Allow"
        Action    = "ec2:DeleteLaunchTemplateVersions"
        Resource  = "${local.ec2}:launch-template/*"
        Condition = { StringEquals = { "aws:ResourceTag/Project" = "visitors" } }
      },
      {
        # A parameter may name an AMI. Secrets are in Secrets Manager, and encrypted parameters are not decrypted.
        Sid      = "ReadParameters"
        Effect   = "Allow"
        Action   = "ssm:GetParametersByPath"
        Resource = ["arn:aws:ssm:${var.region}:${local.account}:parameter/visitors", "arn:aws:ssm:${var.region}:${local.account}:parameter/visitors/*"]
      },
      {
        Sid      = "Lease"
        Effect   = "Allow"
        Action   = ["ssm:DeleteParameter", "ssm:PutParameter"]
        Resource = "arn:aws:ssm:${var.region}:${local.account}:parameter/visitors/bake/*"
      },
      {
        Sid      = "ListArtefacts"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = local.artefacts
      },
      {
        Sid      = "RemoveArtefacts"
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = "${local.artefacts}/*"
      },
    ]
  })
}

# visitors-plan-ENVIRONMENT and visitors-apply-ENVIRONMENT: the calls of Terraform for terraform/. The names are those of
# its modules, so `terraform/main.tf` and this file must agree on `visitors-ENVIRONMENT` and `/visitors/ENVIRONMENT`.

locals {
  default_option_groups = "arn:aws:rds:${var.region}:${local.account}:og:default:*"
  installations = { for environment in keys(var.environments) : environment => {
    of_its_own      = { StringEquals = { "aws:ResourceTag/Project" = "visitors", "aws:ResourceTag/Environment" = environment } }
    for_its_own     = { StringEquals = { "aws:RequestTag/Project" = "visitors", "aws:RequestTag/Environment" = environment } }
    within_boundary = { StringEquals = { "iam:PermissionsBoundary" = "arn:aws:iam::${local.account}:policy/visitors-${environment}-boundary" } }
    topics          = [for region in local.regions : "arn:aws:sns:${region}:${local.account}:visitors-${environment}-on-call"]
    alarms          = [for region in local.regions : "arn:aws:cloudwatch:${region}:${local.account}:alarm:visitors-${environment}-*"]
    bucket          = "arn:aws:s3:::visitors-${environment}-access-logs-${local.account}"
    certificates    = "arn:aws:acm:${var.region}:${local.account}:certificate/*"
    dashboard       = "arn:aws:cloudwatch::${local.account}:dashboard/visitors-${environment}"
    databases = [
      "arn:aws:rds:${var.region}:${local.account}:db:visitors-${environment}",
      "arn:aws:rds:${var.region}:${local.account}:pg:visitors-${environment}-*",
      "arn:aws:rds:${var.region}:${local.account}:subgrp:visitors-${environment}",
    ]
    group     = "arn:aws:autoscaling:${var.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/visitors-${environment}"
    listeners = "arn:aws:elasticloadbalancing:${var.region}:${local.account}:listener/app/visitors-${environment}/*"
    balancer  = "arn:aws:elasticloadbalancing:${var.region}:${local.account}:loadbalancer/app/visitors-${environment}/*"
    log_groups = flatten([for name in [environment, "${environment}/flow"] : [
      "arn:aws:logs:${var.region}:${local.account}:log-group:/visitors/${name}",
      "arn:aws:logs:${var.region}:${local.account}:log-group:/visitors/${name}:*",
    ]])
    parameters        = "arn:aws:ssm:${var.region}:${local.account}:parameter/visitors/${environment}/*"
    profile           = "arn:aws:iam::${local.account}:instance-profile/visitors-${environment}-instance"
    instance_role     = "arn:aws:iam::${local.account}:role/visitors-${environment}-instance"
    flow_logs_role    = "arn:aws:iam::${local.account}:role/visitors-${environment}-flow-logs"
    rules             = "arn:aws:events:${var.region}:${local.account}:rule/visitors-${environment}-*"
    state             = "arn:aws:s3:::${local.buckets["state"]}/${environment}.tfstate"
    target_groups     = "arn:aws:elasticloadbalancing:${var.region}:${local.account}:targetgroup/visitors-${environment}/*"
    visitor_key       = "arn:aws:secretsmanager:${var.region}:${local.account}:secret:visitors/${environment}/visitor-key-*"
    web_acl           = "arn:aws:wafv2:${var.region}:${local.account}:regional/webacl/visitors-${environment}/*"
    zones             = "arn:aws:route53:::hostedzone/*"
    health_checks     = "arn:aws:route53:::healthcheck/*"
    own_name_patterns = [var.environments[environment].domain_name, "_*.${var.environments[environment].domain_name}"]
  } }
}

# visitors-review-ENVIRONMENT: `make review` compares a merge request with the state alone and takes no lock. So it calls AWS
# for the data sources of the stack only, and an unreviewed branch reads neither a secret nor a resource.
resource "aws_iam_role_policy" "review" {
  for_each = local.review_roles

  name = "review"
  role = aws_iam_role.pipeline[each.key].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # These actions accept no resource.
        Sid       = "Look"
        Effect    = "Allow"
        Action    = ["ec2:DescribeImages", "secretsmanager:GetRandomPassword"]
        Resource  = "*"
        Condition = local.in_region
      },
      {
        # Route 53 has no region, and its list of zones no resource.
        Sid      = "FindZone"
        Effect   = "Allow"
        Action   = "route53:ListHostedZones"
        Resource = "*"
      },
      {
        Sid      = "ReadZone"
        Effect   = "Allow"
        Action   = ["route53:GetHostedZone", "route53:ListResourceRecordSets", "route53:ListTagsForResource"]
        Resource = local.installations[each.value].zones
      },
      {
        Sid      = "FindState"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = "arn:aws:s3:::${local.buckets["state"]}"
      },
      {
        Sid      = "ReadState"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = local.installations[each.value].state
      },
    ]
  })
}

# A plan compares the environment with its state; an apply reads the environment again after each change.
locals {
  reads = { for environment, it in local.installations : environment => [
    {
      # These actions accept no resource. In both regions, because the provider for Route 53's region asks too.
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancing.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatchlogs.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeInstanceRefreshes",
        "autoscaling:DescribePolicies",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DescribeScheduledActions",
        "ec2:DescribeAddresses",
        "ec2:DescribeAddressesAttribute",
        "ec2:DescribeFlowLogs",
        "ec2:DescribeImages",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribeNatGateways",
        "ec2:DescribeNetworkAcls",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribePrefixLists",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroupRules",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcEndpoints",
        "ec2:DescribeVpcs",
        "elasticloadbalancing:DescribeCapacityReservation",
        "elasticloadbalancing:DescribeListenerAttributes",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "logs:DescribeLogGroups",
        "secretsmanager:GetRandomPassword",
        "sns:GetSubscriptionAttributes",
        "ssm:DescribeParameters",
      ]
      Resource  = "*"
      Condition = local.in_regions
    },
    {
      # Route 53 has no region, and its list of zones no resource.
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonroute53.html
      Sid      = "FindZone"
      Effect   = "Allow"
      Action   = "route53:ListHostedZones"
      Resource = "*"
    },
    {
      Sid    = "ReadNames"
      Effect = "Allow"
      Action = [
        "route53:GetChange",
        "route53:GetHealthCheck",
        "route53:GetHostedZone",
        "route53:ListResourceRecordSets",
        "route53:ListTagsForResource",
      ]
      # Ids that Route 53 chooses; it has no condition on tags.
      Resource = [it.zones, it.health_checks, "arn:aws:route53:::change/*"]
    },
    {
      Sid    = "ReadOwn"
      Effect = "Allow"
      Action = [
        "cloudwatch:GetDashboard",
        "cloudwatch:ListTagsForResource",
        "events:DescribeRule",
        "events:ListTagsForResource",
        "events:ListTargetsByRule",
        "iam:GetInstanceProfile",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfilesForRole",
        "iam:ListRolePolicies",
        "logs:DescribeMetricFilters",
        "logs:ListTagsForResource",
        "rds:DescribeDBParameterGroups",
        "rds:DescribeDBParameters",
        "rds:DescribeDBSubnetGroups",
        "rds:ListTagsForResource",
        "s3:GetAccelerateConfiguration",
        "s3:GetBucketAcl",
        "s3:GetBucketCORS",
        "s3:GetBucketLogging",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketRequestPayment",
        "s3:GetBucketTagging",
        "s3:GetBucketVersioning",
        "s3:GetBucketWebsite",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetReplicationConfiguration",
        "s3:ListBucket",
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetResourcePolicy",
        "sns:GetTopicAttributes",
        "sns:ListTagsForResource",
        "ssm:GetParameter",
        "ssm:ListTagsForResource",
        "wafv2:GetWebACL",
        "wafv2:ListTagsForResource",
      ]
      Resource = concat(
        it.alarms,
        it.databases,
        it.log_groups,
        it.topics,
        [for kind in [
          "bucket", "dashboard", "flow_logs_role", "instance_role", "parameters", "profile", "rules", "visitor_key",
          "web_acl",
        ] : it[kind]],
      )
    },
    {
      # The provider asks for all alarms and all databases, and filters by name itself.
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["cloudwatch:DescribeAlarms", "rds:DescribeDBInstances"]
      Resource = concat([for region in local.regions : "arn:aws:cloudwatch:${region}:${local.account}:alarm:*"], ["arn:aws:rds:${var.region}:${local.account}:db:*"])
    },
    {
      Sid       = "ReadVpc"
      Effect    = "Allow"
      Action    = "ec2:DescribeVpcAttribute"
      Resource  = "${local.ec2}:vpc/*"
      Condition = it.of_its_own
    },
    {
      Sid       = "ReadCertificate"
      Effect    = "Allow"
      Action    = ["acm:DescribeCertificate", "acm:ListTagsForCertificate"]
      Resource  = it.certificates
      Condition = it.of_its_own
    },
    {
      Sid      = "ReadWebAclOfLoadBalancer"
      Effect   = "Allow"
      Action   = ["elasticloadbalancing:GetLoadBalancerWebACL", "wafv2:GetWebACLForResource"]
      Resource = [it.web_acl, it.balancer]
    },
    {
      # Before 6.26 the provider reads a secret to learn that its version exists, even if Terraform never keeps it. With
      # that provider this statement goes and `secretsmanager:ListSecretVersionIds` comes.
      # https://github.com/hashicorp/terraform-provider-aws/pull/44876
      Sid      = "ReadVisitorKey"
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = it.visitor_key
    },
    {
      Sid      = "FindState"
      Effect   = "Allow"
      Action   = "s3:ListBucket"
      Resource = "arn:aws:s3:::${local.buckets["state"]}"
    },
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = it.state
    },
    {
      # https://developer.hashicorp.com/terraform/language/backend/s3#permissions-required
      Sid      = "LockState"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      Resource = "${it.state}.tflock"
    },
  ] }
}

resource "aws_iam_role_policy" "read" {
  for_each = merge(local.plan_roles, local.apply_roles)

  name   = "read"
  role   = aws_iam_role.pipeline[each.key].name
  policy = jsonencode({ Version = "2012-10-17", Statement = local.reads[each.value] })
}

# An apply creates and changes everything of its environment. It deletes only resources that a changed variable removes,
# and none that holds data or that every request needs: a person destroys an installation.
locals {
  # By the modules of the stack, because one managed policy has at most 6,144 characters.
  # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
  writes = { for environment, it in local.installations : environment => {
    # The module network.
    network = [
      {
        Sid    = "CreateTagged"
        Effect = "Allow"
        Action = [
          "ec2:AllocateAddress",
          "ec2:AuthorizeSecurityGroupEgress",
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:CreateFlowLogs",
          "ec2:CreateInternetGateway",
          "ec2:CreateLaunchTemplate",
          "ec2:CreateNatGateway",
          "ec2:CreateRouteTable",
          "ec2:CreateSecurityGroup",
          "ec2:CreateSubnet",
          "ec2:CreateVpc",
          "ec2:CreateVpcEndpoint",
        ]
        Resource = [for kind in [
          "elastic-ip", "internet-gateway", "launch-template", "natgateway", "route-table", "security-group",
          "security-group-rule", "subnet", "vpc", "vpc-endpoint", "vpc-flow-log",
        ] : "${local.ec2}:${kind}/*"]
        Condition = it.for_its_own
      },
      {
        # As in the role of the bake: only at the creation of a resource.
        Sid      = "TagAtCreation"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = "${local.ec2}:*/*"
        Condition = { StringEquals = merge(it.for_its_own.StringEquals, {
          "ec2:CreateAction" = [
            "AllocateAddress", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "CreateFlowLogs",
            "CreateInternetGateway", "CreateLaunchTemplate", "CreateNatGateway", "CreateRouteTable",
            "CreateSecurityGroup", "CreateSubnet", "CreateVpc", "CreateVpcEndpoint", "RunInstances",
          ]
        }) }
      },
      {
        # A VPC brings its default security group without tags. Terraform tags it first, and empties it then.
        Sid      = "AdoptDefaultSecurityGroup"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = "${local.ec2}:security-group/*"
        Condition = merge(it.for_its_own, {
          Null = { "aws:ResourceTag/Project" = "true" }
        })
      },
      {
        Sid    = "ChangeTagged"
        Effect = "Allow"
        Action = [
          "ec2:AssociateRouteTable",
          "ec2:AttachInternetGateway",
          "ec2:AuthorizeSecurityGroupEgress",
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:CreateFlowLogs",
          "ec2:CreateLaunchTemplateVersion",
          "ec2:CreateNatGateway",
          "ec2:CreateRoute",
          "ec2:CreateRouteTable",
          "ec2:CreateSecurityGroup",
          "ec2:CreateSubnet",
          "ec2:CreateTags",
          "ec2:CreateVpcEndpoint",
          "ec2:DeleteFlowLogs",
          "ec2:DeleteNatGateway",
          "ec2:DeleteRoute",
          "ec2:DeleteVpcEndpoints",
          "ec2:ModifySecurityGroupRules",
          "ec2:ModifyVpcAttribute",
          "ec2:ModifyVpcEndpoint",
          "ec2:ReleaseAddress",
          "ec2:ReplaceRoute",
          "ec2:RevokeSecurityGroupEgress",
          "ec2:RevokeSecurityGroupIngress",
        ]
        Resource  = "${local.ec2}:*/*"
        Condition = it.of_its_own
      },
      {
        # A VPC endpoint with private names makes EC2 associate a hosted zone of AWS with the VPC.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
        Sid      = "NameEndpoints"
        Effect   = "Allow"
        Action   = "route53:AssociateVPCWithHostedZone"
        Resource = it.zones
      },
      {
        Sid      = "DeleteFlowLogs"
        Effect   = "Allow"
        Action   = "logs:DeleteLogGroup"
        Resource = [for arn in it.log_groups : arn if strcontains(arn, "/flow")]
      },
      {
        Sid      = "DeleteFlowLogsRole"
        Effect   = "Allow"
        Action   = "iam:DeleteRole"
        Resource = it.flow_logs_role
      },
      {
        Sid       = "PassFlowLogsRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = it.flow_logs_role
        Condition = { StringEquals = { "iam:PassedToService" = "vpc-flow-logs.amazonaws.com" } }
      },
    ]
    # The module service.
    service = [
      {
        # AWS checks this permission when a group, or an instance refresh, names a launch template.
        # https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
        Sid    = "StartByLaunchTemplate"
        Effect = "Allow"
        Action = "ec2:RunInstances"
        Resource = concat([local.amis], [for kind in [
          "instance", "launch-template", "network-interface", "security-group", "subnet", "volume",
        ] : "${local.ec2}:${kind}/*"])
        Condition = { ArnLike = { "ec2:LaunchTemplate" = "${local.ec2}:launch-template/*" } }
      },
      {
        # CreateAutoScalingGroup tags by names; the group has no tag Environment.
        Sid    = "Group"
        Effect = "Allow"
        Action = [
          "autoscaling:CreateAutoScalingGroup",
          "autoscaling:CreateOrUpdateTags",
          "autoscaling:DeletePolicy",
          "autoscaling:DeleteScheduledAction",
          "autoscaling:EnableMetricsCollection",
          "autoscaling:PutLifecycleHook",
          "autoscaling:PutScalingPolicy",
          "autoscaling:PutScheduledUpdateGroupAction",
          "autoscaling:UpdateAutoScalingGroup",
        ]
        Resource = it.group
      },
      {
        Sid    = "Roll"
        Effect = "Allow"
        Action = [
          "autoscaling:CancelInstanceRefresh",
          "autoscaling:RollbackInstanceRefresh",
          "autoscaling:StartInstanceRefresh",
        ]
        Resource = it.group
      },
      {
        # The last lines of an instance that does not boot.
        Sid       = "ReadConsoles"
        Effect    = "Allow"
        Action    = "ec2:GetConsoleOutput"
        Resource  = "${local.ec2}:instance/*"
        Condition = it.of_its_own
      },
      {
        Sid      = "ListArtefacts"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = local.artefacts
      },
      {
        Sid      = "RecordRolls"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = "${local.artefacts}/rolls/*"
      },
      {
        Sid    = "CreateLoadBalancer"
        Effect = "Allow"
        Action = [
          "elasticloadbalancing:CreateListener",
          "elasticloadbalancing:CreateLoadBalancer",
          "elasticloadbalancing:CreateTargetGroup",
        ]
        Resource  = [it.balancer, it.target_groups]
        Condition = it.for_its_own
      },
      {
        Sid    = "ChangeLoadBalancer"
        Effect = "Allow"
        Action = [
          "elasticloadbalancing:AddTags",
          "elasticloadbalancing:CreateWebACLAssociation",
          "elasticloadbalancing:DeleteWebACLAssociation",
          "elasticloadbalancing:ModifyListener",
          "elasticloadbalancing:ModifyListenerAttributes",
          "elasticloadbalancing:ModifyLoadBalancerAttributes",
          "elasticloadbalancing:ModifyTargetGroup",
          "elasticloadbalancing:ModifyTargetGroupAttributes",
          "elasticloadbalancing:SetSecurityGroups",
        ]
        Resource = [
          it.balancer,
          it.listeners,
          it.target_groups,
        ]
      },
      {
        # This action accepts no resource.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancing.html
        Sid       = "SetWebAcl"
        Effect    = "Allow"
        Action    = "elasticloadbalancing:SetWebAcl"
        Resource  = "*"
        Condition = local.in_region
      },
      {
        Sid       = "CreateWebAcl"
        Effect    = "Allow"
        Action    = "wafv2:CreateWebACL"
        Resource  = it.web_acl
        Condition = it.for_its_own
      },
      {
        Sid    = "ChangeWebAcl"
        Effect = "Allow"
        Action = [
          "wafv2:AssociateWebACL",
          "wafv2:DeleteWebACL",
          "wafv2:DisassociateWebACL",
          "wafv2:TagResource",
          "wafv2:UpdateWebACL",
        ]
        Resource = [it.web_acl, it.balancer]
      },
      {
        # S3's bucket has no tags before PutBucketTagging.
        Sid    = "AccessLogs"
        Effect = "Allow"
        Action = [
          "s3:CreateBucket",
          "s3:PutBucketPolicy",
          "s3:PutBucketPublicAccessBlock",
          "s3:PutBucketTagging",
          "s3:PutEncryptionConfiguration",
          "s3:PutLifecycleConfiguration",
        ]
        Resource = it.bucket
      },
      {
        # By path and not by tag, because a new value of a parameter comes without tags.
        Sid      = "WriteParameters"
        Effect   = "Allow"
        Action   = ["ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:PutParameter"]
        Resource = it.parameters
      },
      {
        Sid    = "Logs"
        Effect = "Allow"
        Action = [
          "logs:CreateLogGroup",
          "logs:DeleteMetricFilter",
          "logs:PutMetricFilter",
          "logs:PutRetentionPolicy",
          "logs:TagResource",
        ]
        Resource = it.log_groups
      },
    ]
    # The roles of the modules service and network, and AWS's own.
    roles = [
      {
        Sid       = "CreateProfile"
        Effect    = "Allow"
        Action    = "iam:CreateInstanceProfile"
        Resource  = it.profile
        Condition = it.for_its_own
      },
      {
        Sid       = "CreateRoles"
        Effect    = "Allow"
        Action    = "iam:CreateRole"
        Resource  = [it.flow_logs_role, it.instance_role]
        Condition = { StringEquals = merge(it.for_its_own.StringEquals, it.within_boundary.StringEquals) }
      },
      {
        # Only on a role with the boundary, so that no policy written here allows more. A role from before the boundary
        # can get this boundary and no other.
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html
        Sid       = "WritePolicies"
        Effect    = "Allow"
        Action    = ["iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        Resource  = [it.flow_logs_role, it.instance_role]
        Condition = it.within_boundary
      },
      {
        Sid    = "ChangeRoles"
        Effect = "Allow"
        Action = [
          "iam:AddRoleToInstanceProfile",
          "iam:TagInstanceProfile",
          "iam:TagRole",
          "iam:UpdateAssumeRolePolicy",
        ]
        Resource = [it.flow_logs_role, it.instance_role, it.profile]
      },
      {
        Sid       = "PassInstanceRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = it.instance_role
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
      {
        # An account has these roles after its first group, load balancer and database. Their policies are AWS's own.
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create-service-linked-role.html
        Sid      = "LetServicesServe"
        Effect   = "Allow"
        Action   = "iam:CreateServiceLinkedRole"
        Resource = "arn:aws:iam::${local.account}:role/aws-service-role/*"
        Condition = { StringEquals = { "iam:AWSServiceName" = [
          "autoscaling.amazonaws.com", "elasticloadbalancing.amazonaws.com", "rds.amazonaws.com",
        ] } }
      },
    ]
    # The modules database and visitor_key, and the state.
    data = [
      {
        Sid      = "WriteState"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = it.state
      },
      {
        Sid       = "CreateDatabase"
        Effect    = "Allow"
        Action    = ["rds:CreateDBInstance", "rds:CreateDBParameterGroup", "rds:CreateDBSubnetGroup"]
        Resource  = concat(it.databases, [local.default_option_groups])
        Condition = it.for_its_own
      },
      {
        Sid    = "ChangeDatabase"
        Effect = "Allow"
        Action = [
          "rds:AddTagsToResource",
          "rds:DeleteDBParameterGroup",
          "rds:ModifyDBInstance",
          "rds:ModifyDBParameterGroup",
          "rds:ModifyDBSubnetGroup",
          "rds:ResetDBParameterGroup",
        ]
        Resource = concat(it.databases, [local.default_option_groups])
      },
      {
        # RDS makes the owner's secret with the permissions of its caller; no role of the pipeline can read it.
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
        Sid      = "LetDatabaseKeepPassword"
        Effect   = "Allow"
        Action   = ["secretsmanager:CreateSecret", "secretsmanager:TagResource"]
        Resource = "arn:aws:secretsmanager:${var.region}:${local.account}:secret:rds!db-*"
      },
      {
        Sid       = "LetDatabaseFindKey"
        Effect    = "Allow"
        Action    = "kms:DescribeKey"
        Resource  = "arn:aws:kms:${var.region}:${local.account}:key/*"
        Condition = { StringLike = { "kms:ViaService" = ["rds.*.amazonaws.com", "secretsmanager.*.amazonaws.com"] } }
      },
      {
        Sid       = "CreateVisitorKey"
        Effect    = "Allow"
        Action    = ["secretsmanager:CreateSecret", "secretsmanager:TagResource"]
        Resource  = it.visitor_key
        Condition = it.for_its_own
      },
      {
        Sid      = "WriteVisitorKey"
        Effect   = "Allow"
        Action   = "secretsmanager:PutSecretValue"
        Resource = it.visitor_key
      },
    ]
    # The modules edge and monitoring.
    edge = [
      {
        # This action accepts no resource, but the tags of its request.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscertificatemanager.html
        Sid       = "RequestCertificate"
        Effect    = "Allow"
        Action    = "acm:RequestCertificate"
        Resource  = "*"
        Condition = it.for_its_own
      },
      {
        Sid       = "TagCertificate"
        Effect    = "Allow"
        Action    = "acm:AddTagsToCertificate"
        Resource  = it.certificates
        Condition = it.for_its_own
      },
      {
        Sid       = "DeleteCertificate"
        Effect    = "Allow"
        Action    = "acm:DeleteCertificate"
        Resource  = it.certificates
        Condition = it.of_its_own
      },
      {
        # The zone may be shared, so the role changes records of its own name only, and the one that proves it to ACM.
        # https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html
        Sid      = "Records"
        Effect   = "Allow"
        Action   = "route53:ChangeResourceRecordSets"
        Resource = it.zones
        Condition = { "ForAllValues:StringLike" = {
          "route53:ChangeResourceRecordSetsNormalizedRecordNames" = it.own_name_patterns
        } }
      },
      {
        # These actions accept no resource, and Route 53 has no condition on tags.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonroute53.html
        Sid      = "CreateHealthCheck"
        Effect   = "Allow"
        Action   = ["route53:CreateHealthCheck", "route53:CreateHostedZone"]
        Resource = "*"
      },
      {
        Sid      = "ChangeHealthCheck"
        Effect   = "Allow"
        Action   = ["route53:ChangeTagsForResource", "route53:DeleteHealthCheck", "route53:UpdateHealthCheck"]
        Resource = [it.health_checks, it.zones]
      },
      {
        Sid      = "Topics"
        Effect   = "Allow"
        Action   = ["sns:CreateTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource"]
        Resource = it.topics
      },
      {
        # This action accepts no resource.
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html
        Sid       = "Unsubscribe"
        Effect    = "Allow"
        Action    = "sns:Unsubscribe"
        Resource  = "*"
        Condition = local.in_regions
      },
      {
        Sid    = "Alarms"
        Effect = "Allow"
        Action = [
          "cloudwatch:DeleteAlarms",
          "cloudwatch:PutDashboard",
          "cloudwatch:PutMetricAlarm",
          "cloudwatch:TagResource",
        ]
        Resource = concat(it.alarms, [it.dashboard])
      },
      {
        Sid    = "Events"
        Effect = "Allow"
        Action = [
          "events:PutRule",
          "events:PutTargets",
          "events:RemoveTargets",
          "events:TagResource",
        ]
        Resource = it.rules
      },
    ]
  } }
}

resource "aws_iam_policy" "write" {
  for_each = merge([for role, environment in local.apply_roles : {
    for part, statements in local.writes[environment] : "${role}-${part}" => { role = role, statements = statements }
  }]...)

  name        = each.key
  description = "Part of the role ${each.value.role}"
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}

resource "aws_iam_role_policy_attachment" "write" {
  for_each = aws_iam_policy.write

  role       = aws_iam_role.pipeline[regex("^(.*)-[a-z]+$", each.key)[0]].name
  policy_arn = each.value.arn
}
