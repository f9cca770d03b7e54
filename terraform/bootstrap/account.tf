# Defaults of the account in this region: instances and disks made by hand are private and encrypted too.

resource "aws_ebs_encryption_by_default" "this" {
  enabled = true
}

resource "aws_ec2_instance_metadata_defaults" "this" {
  http_tokens                 = "required"
  http_put_response_hop_limit = 1
}

resource "aws_ec2_image_block_public_access" "this" {
  state = "block-new-sharing"
}

resource "aws_ebs_snapshot_block_public_access" "this" {
  state = "block-all-sharing"
}
