# Policies of the bootstrap, applied to a mocked provider.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::visitors" }
  }
}

variables {
  region             = "eu-central-1"
  gitlab_project     = "group/visitors"
  environments       = { staging = { domain_name = "staging.visitors.example.com" } }
  monthly_budget_usd = 200
  budget_emails      = ["costs@example.com"]
}

run "buckets_are_private_encrypted_and_keep_old_versions" {
  command = plan
  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "The world could read the state, with every name of the installation."
  }
  assert {
    condition     = alltrue([for versioning in aws_s3_bucket_versioning.this : versioning.versioning_configuration[0].status == "Enabled"])
    error_message = "An overwritten state could not be restored."
  }
  assert {
    condition     = keys(aws_s3_bucket.this) == ["artefacts", "state"]
    error_message = "The stack needs a bucket for its state and one for its artefacts."
  }
}

run "an_instance_made_by_hand_needs_tokens_and_its_image_stays_private" {
  command = plan
  assert {
    condition     = aws_ec2_instance_metadata_defaults.this.http_tokens == "required" && aws_ec2_instance_metadata_defaults.this.http_put_response_hop_limit == 1
    error_message = "A forged request could read the credentials of an instance."
  }
  assert {
    condition     = aws_ec2_image_block_public_access.this.state == "block-new-sharing" && aws_ebs_snapshot_block_public_access.this.state == "block-all-sharing" && aws_ebs_encryption_by_default.this.enabled
    error_message = "An image or a disk could be shared with the world by mistake."
  }
}

run "costs_are_reported_before_they_are_spent" {
  command = plan
  assert {
    condition     = toset([for notification in aws_budgets_budget.monthly.notification : notification.notification_type]) == toset(["ACTUAL", "FORECASTED"])
    error_message = "The bill would be the first warning."
  }
}

run "a_gitlab_with_a_final_slash_is_refused" {
  command = plan
  variables {
    gitlab_url = "https://gitlab.com/"
  }
  expect_failures = [var.gitlab_url]
}

run "an_empty_list_of_people_is_refused" {
  command = plan
  variables {
    budget_emails = []
  }
  expect_failures = [var.budget_emails]
}
