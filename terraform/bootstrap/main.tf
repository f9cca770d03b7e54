# The resources that the first `terraform apply` of the stack needs: applied once by hand, with an administrator's
# credentials. Its own state stays on the machine that applied it; docs/operations.md says where to keep it.

data "aws_caller_identity" "current" {}

locals {
  buckets = {
    # Terraform's state of each environment; S3's own lock file stands beside it.
    state = "visitors-state-${data.aws_caller_identity.current.account_id}"
    # The files beside an AMI: bill of materials, packages, inputs.
    artefacts = "visitors-artefacts-${data.aws_caller_identity.current.account_id}"
  }
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18: a log bucket would need the same again; CloudTrail records access where a trail has data events
  # checkov:skip=CKV_AWS_21: versioning is below; this check does not follow for_each
  # checkov:skip=CKV_AWS_144: a state describes one region, and a bake makes its artefacts again
  # checkov:skip=CKV_AWS_145: KMS is below; this check does not follow for_each
  # checkov:skip=CKV2_AWS_6: the block is below; this check does not follow for_each
  # checkov:skip=CKV2_AWS_61: the lifecycle is below; this check does not follow for_each
  # checkov:skip=CKV2_AWS_62: nothing reacts to a new object
  for_each = local.buckets

  bucket = each.value

  lifecycle {
    prevent_destroy = true # without its state, Terraform would create everything a second time
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
    bucket_key_enabled = true
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 90
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Action    = "s3:*"
      Principal = "*"
      Resource  = [each.value.arn, "${each.value.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# Pipelines identify themselves by a token of GitLab, so no AWS key is stored anywhere.
# https://docs.gitlab.com/ci/cloud_services/aws/
resource "aws_iam_openid_connect_provider" "gitlab" {
  url            = var.gitlab_url
  client_id_list = local.roles # the audiences: the names of the roles
}

resource "aws_budgets_budget" "monthly" {
  name         = "visitors-monthly"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  notification {
    notification_type          = "ACTUAL"
    comparison_operator        = "GREATER_THAN"
    threshold                  = 80
    threshold_type             = "PERCENTAGE"
    subscriber_email_addresses = var.budget_emails
  }

  notification {
    notification_type          = "FORECASTED"
    comparison_operator        = "GREATER_THAN"
    threshold                  = 100
    threshold_type             = "PERCENTAGE"
    subscriber_email_addresses = var.budget_emails
  }
}
