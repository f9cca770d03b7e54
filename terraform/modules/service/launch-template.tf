# The launch template. Each change is a new version; a roll brings it to the instances.

locals {
  application_port = 8000
  lifecycle_hook   = "boot"
  deploy_id        = "${var.deploy_number}/${var.ami_id}"

  instance_environment = merge(var.instance_environment, {
    PARAMETER_PREFIX   = var.parameter_prefix
    AWS_REGION         = local.region
    DEPLOY_ID          = local.deploy_id
    LIFECYCLE_HOOK     = local.lifecycle_hook
    AUTO_SCALING_GROUP = var.name
    LOG_GROUP          = aws_cloudwatch_log_group.instances.name
  })
}

data "aws_ami" "this" {
  owners = ["self"]

  filter {
    name   = "image-id"
    values = [var.ami_id]
  }

  lifecycle {
    postcondition {
      condition     = lookup(self.tags, "Released", "") == "true"
      error_message = "${var.ami_id} is not released: its tag Released is not true, because no copy of it passed the self-test. `release verify ${var.ami_id}` tests one."
    }
  }
}

resource "aws_launch_template" "this" {
  name        = var.name
  description = "Deploy ${local.deploy_id}, version ${lookup(data.aws_ami.this.tags, "Version", "unknown")}"

  image_id      = data.aws_ami.this.id
  instance_type = var.instance_type
  user_data = base64encode(templatefile("${path.module}/../../../instance/user-data.tftpl", {
    environment = join("\n", [for name, value in local.instance_environment : "${name}=${value}"])
  }))

  # An instance that cannot serve turns itself off, which terminates it.
  instance_initiated_shutdown_behavior = "terminate"

  iam_instance_profile {
    arn = aws_iam_instance_profile.instance.arn
  }

  # Only processes of the instance itself reach its credentials: one hop, and tokens.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    associate_public_ip_address = false
    delete_on_termination       = true
    security_groups             = [aws_security_group.instances.id]
  }

  block_device_mappings {
    device_name = data.aws_ami.this.root_device_name
    ebs {
      volume_type                = "gp3"
      volume_size                = var.volume_gib
      volume_initialization_rate = var.volume_initialization_rate
      encrypted                  = true
      delete_on_termination      = true
    }
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])
    content {
      resource_type = tag_specifications.key
      tags = {
        Name        = var.name
        Project     = "visitors"
        Environment = trimprefix(var.name, "visitors-")
      }
    }
  }
}
