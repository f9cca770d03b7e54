# Policies of the roles of the pipeline, planned with a mocked provider.

mock_provider "aws" {
  override_during = plan
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/visitors-test" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/visitors-test" }
  }
}

variables {
  region             = "eu-central-1"
  gitlab_project     = "group/visitors"
  branch             = "main"
  monthly_budget_usd = 200
  budget_emails      = ["costs@example.com"]
  environments = {
    staging    = { domain_name = "staging.visitors.example.com" }
    production = { domain_name = "visitors.example.com" }
  }
}

run "each_stage_of_each_environment_has_its_role" {
  command = plan
  assert {
    condition = keys(aws_iam_role.pipeline) == [
      "visitors-apply-production", "visitors-apply-staging", "visitors-bake", "visitors-plan-production",
      "visitors-plan-staging", "visitors-prune", "visitors-review-production", "visitors-review-staging",
    ]
    error_message = "A stage would borrow the permissions of another one."
  }
  assert {
    condition     = keys(output.role_arns) == keys(aws_iam_role.pipeline)
    error_message = "A job could not name its role."
  }
  assert {
    condition     = toset(aws_iam_openid_connect_provider.gitlab.client_id_list) == toset(keys(aws_iam_role.pipeline))
    error_message = "AWS would accept a token for an audience that no role has, or refuse the token of a role."
  }
}

run "only_jobs_of_the_project_on_the_branch_take_a_role_each_by_an_audience_of_its_own" {
  command = plan
  assert {
    condition = alltrue([for name, role in aws_iam_role.pipeline : jsondecode(role.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/gitlab.com" }
      Condition = { StringEquals = {
        "gitlab.com:aud" = name
        "gitlab.com:sub" = "project_path:group/visitors:ref_type:branch:ref:main"
      } }
    }] if !startswith(name, "visitors-review-")])
    error_message = "A job of another project, of another branch, or for another environment could take the role."
  }
  assert {
    condition = alltrue([for name, role in aws_iam_role.pipeline : jsondecode(role.assume_role_policy).Statement[0].Condition == {
      StringEquals = { "gitlab.com:aud" = name }
      StringLike   = { "gitlab.com:sub" = "project_path:group/visitors:ref_type:branch:ref:*" }
    } if startswith(name, "visitors-review-")])
    error_message = "A job of a fork could take the role of a review, or a merge request could not."
  }
}

run "a_review_reads_the_state_and_the_data_sources_of_the_stack_and_writes_nothing" {
  command = plan
  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.review["visitors-review-staging"].policy).Statement : statement.Sid => [flatten([statement.Action]), statement.Resource] } == {
      Look      = [["ec2:DescribeImages", "secretsmanager:GetRandomPassword"], "*"]
      FindZone  = [["route53:ListHostedZones"], "*"]
      ReadZone  = [["route53:GetHostedZone", "route53:ListResourceRecordSets", "route53:ListTagsForResource"], "arn:aws:route53:::hostedzone/*"]
      FindState = [["s3:ListBucket"], "arn:aws:s3:::visitors-state-123456789012"]
      ReadState = [["s3:GetObject"], "arn:aws:s3:::visitors-state-123456789012/staging.tfstate"]
    }
    error_message = "Any branch could read more than the state, or a review would lack a permission."
  }
}

run "a_role_of_the_stack_cannot_be_allowed_more_than_its_boundary" {
  command = plan
  assert {
    condition = {
      for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) :
      statement.Sid => try(statement.Condition.StringEquals["iam:PermissionsBoundary"], "")
      if length(setintersection(flatten([statement.Action]), ["iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary"])) > 0
      } == {
      CreateRoles   = "arn:aws:iam::123456789012:policy/visitors-staging-boundary"
      WritePolicies = "arn:aws:iam::123456789012:policy/visitors-staging-boundary"
    }
    error_message = "An apply could write a policy that makes an instance an administrator."
  }
  assert {
    condition = length(setintersection(flatten(flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement])[*].Action), [
      "iam:AttachRolePolicy", "iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:DeletePolicyVersion",
      "iam:DeleteRolePermissionsBoundary", "iam:SetDefaultPolicyVersion",
    ])) == 0
    error_message = "An apply could change or remove the boundary."
  }
  assert {
    condition     = keys(aws_iam_policy.boundary) == ["production", "staging"] && aws_iam_policy.boundary["staging"].name == "visitors-staging-boundary"
    error_message = "The conditions would name a boundary that does not exist, so no role could be created."
  }
}

run "a_boundary_allows_exactly_the_actions_of_an_instance_and_of_the_flow_logs" {
  command = plan
  assert {
    condition = toset(flatten(jsondecode(aws_iam_policy.boundary["staging"].policy).Statement[*].Action)) == toset([
      "autoscaling:CompleteLifecycleAction", "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances", "autoscaling:RecordLifecycleActionHeartbeat",
      "cloudwatch:PutMetricData", "elasticloadbalancing:DescribeTargetHealth",
      "logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents",
      "rds-db:connect", "secretsmanager:GetSecretValue", "ssm:GetParametersByPath",
    ])
    error_message = "An apply could give an instance more than it needs, or an instance would lack a permission."
  }
  assert {
    condition     = !strcontains(aws_iam_policy.boundary["staging"].policy, "production") && length(aws_iam_policy.boundary["staging"].policy) <= 6144
    error_message = "An instance of staging could be allowed to read production, or IAM would refuse the policy."
  }
}

run "a_gitlab_of_ones_own_is_the_issuer_in_the_conditions" {
  command = plan
  variables {
    gitlab_url = "https://gitlab.example.com"
  }
  assert {
    condition     = keys(jsondecode(aws_iam_role.pipeline["visitors-bake"].assume_role_policy).Statement[0].Condition.StringEquals) == ["gitlab.example.com:aud", "gitlab.example.com:sub"]
    error_message = "The conditions would read claims of gitlab.com, so no job of this GitLab could take the role."
  }
}

run "the_bake_allows_exactly_the_actions_of_a_bake" {
  command = plan
  assert {
    condition = toset(flatten(jsondecode(aws_iam_role_policy.bake.policy).Statement[*].Action)) == toset([
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes",
      "autoscaling:DescribeLaunchConfigurations",
      "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateImage", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup",
      "ec2:CreateTags", "ec2:DeleteKeyPair", "ec2:DeleteSecurityGroup", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
      "ec2:DeregisterImage", "ec2:DescribeFleets", "ec2:DescribeImages", "ec2:DescribeInstances",
      "ec2:DescribeKeyPairs", "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSecurityGroups",
      "ec2:DescribeSnapshots", "ec2:DescribeSpotFleetRequests", "ec2:DescribeSpotInstanceRequests",
      "ec2:DescribeSubnets", "ec2:DescribeVolumes", "ec2:GetConsoleOutput", "ec2:ModifyImageAttribute",
      "ec2:ModifyInstanceAttribute", "ec2:RunInstances", "ec2:StopInstances", "ec2:TerminateInstances",
      "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
      "ssm:DeleteParameter", "ssm:GetParametersByPath", "ssm:PutParameter",
    ])
    error_message = "The bake could do more than bake, or a bake would lack a permission."
  }
  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.bake.policy).Statement : statement.Sid => statement.Resource if contains(["Lease", "ListArtefacts", "KeepArtefacts"], statement.Sid) } == {
      Lease         = "arn:aws:ssm:eu-central-1:123456789012:parameter/visitors/bake/*"
      ListArtefacts = "arn:aws:s3:::visitors-artefacts-123456789012"
      KeepArtefacts = "arn:aws:s3:::visitors-artefacts-123456789012/*"
    }
    error_message = "The bake could read or change the state of Terraform or the parameters of an installation."
  }
}

run "pruning_removes_only_what_a_bake_made_and_versions_of_the_projects_templates" {
  command = plan
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.prune.policy).Statement :
      try(statement.Condition.StringEquals["aws:ResourceTag/Project"], "") == "visitors" && (statement.Sid == "RemoveTemplateVersions" || try(statement.Condition.StringLike["aws:ResourceTag/Run"], "") == "?*")
      if length([for action in flatten([statement.Action]) : action if can(regex("^ec2:[^D]|^ec2:De[^s]", action))]) > 0
    ])
    error_message = "Pruning could end an instance that serves visitors."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.prune.policy).Statement : statement.Sid if try(statement.Resource == "*", false)] == ["Look"]
    error_message = "Pruning could act on resources of others."
  }
  assert {
    condition     = length([for action in flatten(jsondecode(aws_iam_role_policy.prune.policy).Statement[*].Action) : action if can(regex(":(Run|Start|Create(?:[^T])|Put(?:[^P]))", action))]) == 0
    error_message = "Pruning could start or create something."
  }
}

run "the_bake_changes_only_what_a_bake_made" {
  command = plan
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.bake.policy).Statement :
      try(statement.Condition.StringLike["aws:ResourceTag/Run"], "") == "?*" && try(statement.Condition.StringEquals["aws:ResourceTag/Project"], "") == "visitors"
      if length([for action in flatten([statement.Action]) : action if can(regex("^ec2:(Authorize|Delete|Deregister|Get|Modify|Stop|Terminate)", action))]) > 0
    ])
    error_message = "A bake could end an instance that serves visitors."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.bake.policy).Statement :
      can(statement.Condition.StringEquals["ec2:CreateAction"]) || can(statement.Condition.StringEquals["aws:ResourceTag/Project"])
      if contains(flatten([statement.Action]), "ec2:CreateTags")
    ])
    error_message = "A bake could tag a resource of another project and then delete it as its own."
  }
}

run "a_plan_allows_exactly_the_actions_of_reading_and_the_lock" {
  command = plan
  assert {
    condition = toset(flatten(jsondecode(aws_iam_role_policy.read["visitors-plan-staging"].policy).Statement[*].Action)) == toset([
      "acm:DescribeCertificate", "acm:ListTagsForCertificate",
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes",
      "autoscaling:DescribePolicies", "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeScheduledActions",
      "cloudwatch:DescribeAlarms", "cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource",
      "ec2:DescribeAddresses", "ec2:DescribeAddressesAttribute", "ec2:DescribeFlowLogs", "ec2:DescribeImages",
      "ec2:DescribeInternetGateways", "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeLaunchTemplates",
      "ec2:DescribeNatGateways", "ec2:DescribeNetworkAcls", "ec2:DescribeNetworkInterfaces",
      "ec2:DescribePrefixLists", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroupRules",
      "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcEndpoints",
      "ec2:DescribeVpcs",
      "elasticloadbalancing:DescribeCapacityReservation", "elasticloadbalancing:DescribeListenerAttributes",
      "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancerAttributes",
      "elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeTags",
      "elasticloadbalancing:DescribeTargetGroupAttributes", "elasticloadbalancing:DescribeTargetGroups",
      "elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:GetLoadBalancerWebACL",
      "events:DescribeRule", "events:ListTagsForResource", "events:ListTargetsByRule",
      "iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies",
      "logs:DescribeLogGroups", "logs:DescribeMetricFilters", "logs:ListTagsForResource",
      "rds:DescribeDBInstances", "rds:DescribeDBParameterGroups", "rds:DescribeDBParameters",
      "rds:DescribeDBSubnetGroups", "rds:ListTagsForResource",
      "route53:GetChange", "route53:GetHealthCheck", "route53:GetHostedZone", "route53:ListHostedZones",
      "route53:ListResourceRecordSets", "route53:ListTagsForResource",
      "s3:DeleteObject", "s3:GetAccelerateConfiguration", "s3:GetBucketAcl", "s3:GetBucketCORS",
      "s3:GetBucketLogging", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketPolicy",
      "s3:GetBucketPublicAccessBlock", "s3:GetBucketRequestPayment", "s3:GetBucketTagging", "s3:GetBucketVersioning",
      "s3:GetBucketWebsite", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetObject",
      "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:PutObject",
      "secretsmanager:DescribeSecret", "secretsmanager:GetRandomPassword", "secretsmanager:GetResourcePolicy",
      "secretsmanager:GetSecretValue",
      "sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListTagsForResource",
      "ssm:DescribeParameters", "ssm:GetParameter", "ssm:ListTagsForResource",
      "wafv2:GetWebACL", "wafv2:GetWebACLForResource", "wafv2:ListTagsForResource",
    ])
    error_message = "A plan could do more than read, or it would lack a permission."
  }
  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.read["visitors-plan-staging"].policy).Statement : statement.Sid => statement.Resource
      if length([for action in flatten([statement.Action]) : action if !can(regex(":(Describe|Get|List)[A-Z]", action))]) > 0
    } == { LockState = "arn:aws:s3:::visitors-state-123456789012/staging.tfstate.tflock" }
    error_message = "A plan could write something else than the lock of its own state."
  }
}

run "a_plan_reads_one_secret_only_the_key_of_its_environment" {
  command = plan
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.read["visitors-plan-staging"].policy).Statement : statement.Resource
      if contains(flatten([statement.Action]), "secretsmanager:GetSecretValue")
    ] == ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:visitors/staging/visitor-key-*"]
    error_message = "A plan could read the password of the database's owner, or the secrets of another environment."
  }
}

run "an_apply_allows_exactly_the_actions_of_terraform_and_of_a_roll" {
  command = plan
  assert {
    condition     = aws_iam_role_policy.read["visitors-apply-staging"].policy == aws_iam_role_policy.read["visitors-plan-staging"].policy
    error_message = "An apply would see less than the plan."
  }
  assert {
    condition = toset(flatten(flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")])[*].Action)) == toset([
      "acm:AddTagsToCertificate", "acm:DeleteCertificate", "acm:RequestCertificate",
      "autoscaling:CancelInstanceRefresh", "autoscaling:CreateAutoScalingGroup", "autoscaling:CreateOrUpdateTags",
      "autoscaling:DeletePolicy", "autoscaling:DeleteScheduledAction", "autoscaling:EnableMetricsCollection",
      "autoscaling:PutLifecycleHook", "autoscaling:PutScalingPolicy", "autoscaling:PutScheduledUpdateGroupAction",
      "autoscaling:RollbackInstanceRefresh", "autoscaling:StartInstanceRefresh",
      "autoscaling:UpdateAutoScalingGroup",
      "cloudwatch:DeleteAlarms", "cloudwatch:PutDashboard", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource",
      "ec2:AllocateAddress", "ec2:AssociateRouteTable", "ec2:AttachInternetGateway",
      "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateFlowLogs",
      "ec2:CreateInternetGateway", "ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion",
      "ec2:CreateNatGateway", "ec2:CreateRoute", "ec2:CreateRouteTable", "ec2:CreateSecurityGroup",
      "ec2:CreateSubnet", "ec2:CreateTags", "ec2:CreateVpc", "ec2:CreateVpcEndpoint", "ec2:DeleteFlowLogs",
      "ec2:DeleteNatGateway", "ec2:DeleteRoute", "ec2:DeleteVpcEndpoints", "ec2:GetConsoleOutput",
      "ec2:ModifySecurityGroupRules",
      "ec2:ModifyVpcAttribute", "ec2:ModifyVpcEndpoint", "ec2:ReleaseAddress", "ec2:ReplaceRoute",
      "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress", "ec2:RunInstances",
      "elasticloadbalancing:AddTags", "elasticloadbalancing:CreateListener",
      "elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup",
      "elasticloadbalancing:CreateWebACLAssociation", "elasticloadbalancing:DeleteWebACLAssociation",
      "elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyListenerAttributes",
      "elasticloadbalancing:ModifyLoadBalancerAttributes", "elasticloadbalancing:ModifyTargetGroup",
      "elasticloadbalancing:ModifyTargetGroupAttributes", "elasticloadbalancing:SetSecurityGroups",
      "elasticloadbalancing:SetWebAcl",
      "events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:TagResource",
      "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:CreateRole", "iam:CreateServiceLinkedRole",
      "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PassRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
      "iam:TagInstanceProfile", "iam:TagRole", "iam:UpdateAssumeRolePolicy",
      "kms:DescribeKey",
      "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter", "logs:PutMetricFilter",
      "logs:PutRetentionPolicy", "logs:TagResource",
      "rds:AddTagsToResource", "rds:CreateDBInstance", "rds:CreateDBParameterGroup", "rds:CreateDBSubnetGroup",
      "rds:DeleteDBParameterGroup", "rds:ModifyDBInstance", "rds:ModifyDBParameterGroup", "rds:ModifyDBSubnetGroup",
      "rds:ResetDBParameterGroup",
      "route53:AssociateVPCWithHostedZone", "route53:ChangeResourceRecordSets", "route53:ChangeTagsForResource",
      "route53:CreateHealthCheck", "route53:CreateHostedZone", "route53:DeleteHealthCheck",
      "route53:UpdateHealthCheck",
      "s3:CreateBucket", "s3:GetObject", "s3:ListBucket", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging",
      "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutObject",
      "secretsmanager:CreateSecret", "secretsmanager:PutSecretValue", "secretsmanager:TagResource",
      "sns:CreateTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource", "sns:Unsubscribe",
      "ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:PutParameter",
      "wafv2:AssociateWebACL", "wafv2:CreateWebACL", "wafv2:DeleteWebACL", "wafv2:DisassociateWebACL",
      "wafv2:TagResource", "wafv2:UpdateWebACL",
    ])
    error_message = "An apply could do more than apply, or it would lack a permission."
  }
  assert {
    condition = { for name, attachment in aws_iam_role_policy_attachment.write : name => attachment.role } == merge([
      for environment in ["production", "staging"] : {
        for part in ["data", "edge", "network", "roles", "service"] : "visitors-apply-${environment}-${part}" => "visitors-apply-${environment}"
      }
    ]...)
    error_message = "A role that plans could write."
  }
}

run "an_apply_writes_to_iam_only_the_roles_of_its_environment" {
  command = plan
  assert {
    condition = toset(flatten([
      for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) : statement.Resource
      if length([for action in flatten([statement.Action]) : action if startswith(action, "iam:") && action != "iam:CreateServiceLinkedRole"]) > 0
      ])) == toset([
      "arn:aws:iam::123456789012:instance-profile/visitors-staging-instance",
      "arn:aws:iam::123456789012:role/visitors-staging-flow-logs",
      "arn:aws:iam::123456789012:role/visitors-staging-instance",
    ])
    error_message = "An apply could give its own role more permissions."
  }
  assert {
    condition = {
      for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) :
      statement.Resource => statement.Condition if statement.Action == "iam:PassRole"
      } == {
      "arn:aws:iam::123456789012:role/visitors-staging-instance"  = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      "arn:aws:iam::123456789012:role/visitors-staging-flow-logs" = { StringEquals = { "iam:PassedToService" = "vpc-flow-logs.amazonaws.com" } }
    }
    error_message = "An apply could hand a role to another service than the one that needs it."
  }
}

run "an_apply_deletes_nothing_that_holds_data_or_that_every_request_needs" {
  command = plan
  assert {
    condition = toset([
      for action in flatten(flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-production-")])[*].Action) : action
      if can(regex(":(Delete|Release|Deregister|Terminate|Detach)", action))
      ]) == toset([
      "acm:DeleteCertificate",
      "autoscaling:DeletePolicy", "autoscaling:DeleteScheduledAction",
      "cloudwatch:DeleteAlarms",
      "ec2:DeleteFlowLogs", "ec2:DeleteNatGateway", "ec2:DeleteRoute", "ec2:DeleteVpcEndpoints",
      "ec2:ReleaseAddress",
      "elasticloadbalancing:DeleteWebACLAssociation",
      "iam:DeleteRole", "iam:DeleteRolePolicy",
      "logs:DeleteLogGroup", "logs:DeleteMetricFilter",
      "rds:DeleteDBParameterGroup",
      "route53:DeleteHealthCheck",
      "ssm:DeleteParameter",
      "wafv2:DeleteWebACL",
    ])
    error_message = "A job could delete the database, its key, the zone, the logs, or the way of every request."
  }
}

run "staging_has_no_name_of_production" {
  command = plan
  assert {
    condition     = alltrue([for name, policy in aws_iam_policy.write : !strcontains(policy.policy, "production") if startswith(name, "visitors-apply-staging-")]) && !strcontains(aws_iam_role_policy.read["visitors-plan-staging"].policy, "production")
    error_message = "A job for staging could change production."
  }
  assert {
    condition = [
      for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) :
      statement.Condition["ForAllValues:StringLike"]["route53:ChangeResourceRecordSetsNormalizedRecordNames"]
      if contains(flatten([statement.Action]), "route53:ChangeResourceRecordSets")
    ] == [["staging.visitors.example.com", "_*.staging.visitors.example.com"]]
    error_message = "A job for staging could lead the visitors of production elsewhere, because both names may share a zone."
  }
  assert {
    condition = alltrue([
      for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) : anytrue([
        can(statement.Condition.StringEquals["aws:RequestTag/Environment"]),
        can(statement.Condition.StringEquals["aws:ResourceTag/Environment"]),
        can(statement.Condition.ArnLike["ec2:LaunchTemplate"]),
      ]) if length([for action in flatten([statement.Action]) : action if startswith(action, "ec2:")]) > 0
    ])
    error_message = "A job for staging could change a resource of EC2 that is not tagged as staging's."
  }
}

run "no_action_has_a_wildcard_and_every_resource_has_one_only_where_aws_accepts_nothing_else" {
  command = plan
  assert {
    condition = alltrue([
      for policy in concat([aws_iam_role_policy.bake.policy, aws_iam_role_policy.prune.policy], values(aws_iam_role_policy.read)[*].policy, values(aws_iam_role_policy.review)[*].policy, values(aws_iam_policy.write)[*].policy, values(aws_iam_policy.boundary)[*].policy) :
      !strcontains(join(" ", flatten(jsondecode(policy).Statement[*].Action)), "*") && alltrue([for statement in jsondecode(policy).Statement : statement.Effect == "Allow"])
    ])
    error_message = "A role would gain the actions that AWS adds later."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.bake.policy).Statement : statement.Sid if statement.Resource == "*"] == ["Look"]
    error_message = "The bake could act on resources of others."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.read["visitors-plan-staging"].policy).Statement : statement.Sid if try(statement.Resource == "*", false)] == ["Look", "FindZone"]
    error_message = "A plan could read resources of others."
  }
  assert {
    condition     = toset([for statement in flatten([for name, policy in aws_iam_policy.write : jsondecode(policy.policy).Statement if startswith(name, "visitors-apply-staging-")]) : statement.Sid if try(statement.Resource == "*", false)]) == toset(["SetWebAcl", "Unsubscribe", "RequestCertificate", "CreateHealthCheck"])
    error_message = "An apply could act on resources of others."
  }
}

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
run "iam_accepts_the_policies_also_with_the_longest_name_of_an_environment" {
  command = plan
  variables {
    region       = "ap-southeast-1"
    environments = { abcdefghijklmno = { domain_name = "abcdefghijklmno.visitors.subdomain.example.com" } }
  }
  assert {
    condition     = length(aws_iam_role_policy.bake.policy) <= 10240 && length(aws_iam_role_policy.read["visitors-apply-abcdefghijklmno"].policy) <= 10240
    error_message = "IAM would refuse an inline policy of more than 10,240 characters."
  }
  assert {
    condition     = alltrue([for policy in aws_iam_policy.write : length(policy.policy) <= 6144])
    error_message = "IAM would refuse a managed policy of more than 6,144 characters: ${join(", ", [for name, policy in aws_iam_policy.write : "${name} has ${length(policy.policy)}"])}."
  }
}

run "a_wildcard_project_is_refused" {
  command = plan
  variables {
    gitlab_project = "group/*"
  }
  expect_failures = [var.gitlab_project]
}

run "a_group_without_a_project_is_refused" {
  command = plan
  variables {
    gitlab_project = "group"
  }
  expect_failures = [var.gitlab_project]
}

run "a_wildcard_branch_is_refused" {
  command = plan
  variables {
    branch = "*"
  }
  expect_failures = [var.branch]
}

run "an_environment_that_takes_the_path_of_the_leases_is_refused" {
  command = plan
  variables {
    environments = { bake = { domain_name = "bake.visitors.example.com" } }
  }
  expect_failures = [var.environments]
}

run "a_wildcard_domain_is_refused" {
  command = plan
  variables {
    environments = { staging = { domain_name = "*.example.com" } }
  }
  expect_failures = [var.environments]
}
