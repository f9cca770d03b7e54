# Two builds: `base` bakes an AMI with the system, its engine and its rules; `app` adds one version of the application.
# packer build -only='base.*' packer; packer build -only='app.*' -var=base_ami=ami-1 packer
# Limited to the syntax of both Packer 1.6.6 and 1.14 or newer: docs/decisions/0007-two-packers.md.

# The builder.

variable "region" {
  type        = string
  description = "Region of the bake. Empty: AWS_REGION or AWS_DEFAULT_REGION of the environment."
  default     = ""
  validation {
    condition     = regex_replace(var.region, "^[a-z]{2,3}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The region must look like eu-central-1, or be empty."
  }
}

variable "ec2_endpoint" {
  type        = string
  description = "URL of another EC2 API than the region's; Packer 1.6 ignores AWS_ENDPOINT_URL."
  default     = ""
  validation {
    condition     = regex_replace(var.ec2_endpoint, "^https?://[^/ ]+$", "") == ""
    error_message = "The ec2_endpoint must look like https://ec2.example.com, or be empty."
  }
}

variable "instance_type" {
  type        = string
  description = "Instance type of the builder; the AMI does not depend on it."
  default     = "t3.small"
  validation {
    condition     = var.instance_type != "" && regex_replace(var.instance_type, "^[a-z0-9-]+[.][a-z0-9-]+$", "") == ""
    error_message = "The instance_type must look like t3.small."
  }
}

variable "volume_size" {
  type        = number
  description = "GiB of the root volume; an instance fetches each block from the snapshot when it first reads it."
  default     = 8
  validation {
    condition     = var.volume_size >= 8 && var.volume_size <= 64
    error_message = "The volume_size must be 8 to 64 GiB; Debian's own AMIs have 8."
  }
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the builder; it needs a route to Debian's archive. Empty: one of the default VPC."
  default     = ""
  validation {
    condition     = regex_replace(var.subnet_id, "^subnet-[0-9a-f]{8,17}$", "") == ""
    error_message = "The subnet_id must look like subnet-0123456789abcdef0, or be empty."
  }
}

# The connection to the builder.

variable "ssh_username" {
  type        = string
  description = "Account that the source AMI creates for the key pair; in Debian's AMIs it is admin."
  default     = "admin"
  validation {
    condition     = var.ssh_username != "" && regex_replace(var.ssh_username, "^[a-z_][a-z0-9_-]*$", "") == ""
    error_message = "The ssh_username must be the name of an account, such as admin."
  }
}

variable "ssh_interface" {
  type        = string
  description = "Target of SSH: public_ip, private_ip, public_dns or private_dns; session_manager needs no port."
  default     = "public_ip"
  validation {
    condition = contains([
      "public_ip", "private_ip", "public_dns", "private_dns", "session_manager"
    ], var.ssh_interface)
    error_message = "The ssh_interface must be public_ip, private_ip, public_dns, private_dns or session_manager."
  }
}

variable "ssh_source_cidrs" {
  type        = list(string)
  description = "Addresses that may reach SSH on the builder, such as 198.51.100.7/32; `release bake` sets its own."
  validation {
    condition = (
      length(var.ssh_source_cidrs) > 0 &&
      contains(var.ssh_source_cidrs, "0.0.0.0/0") == false && contains(var.ssh_source_cidrs, "::/0") == false
    )
    error_message = "The ssh_source_cidrs must be a list of your own addresses, without 0.0.0.0/0 and ::/0."
  }
}

variable "iam_instance_profile" {
  type        = string
  description = "Instance profile of the builder; session_manager needs one with AmazonSSMManagedInstanceCore."
  default     = ""
  validation {
    condition     = regex_replace(var.iam_instance_profile, "^[0-9A-Za-z+=,.@_-]{1,128}$", "") == ""
    error_message = "The iam_instance_profile must be the name of a profile, or be empty."
  }
}

variable "user_data_file" {
  type        = string
  description = "User data of the builder; for session_manager it must install the SSM agent, which Debian lacks."
  default     = ""
  validation {
    condition     = var.user_data_file == "" || try(fileexists(var.user_data_file), false)
    error_message = "The user_data_file must be a file, or be empty."
  }
}

# The inputs.

variable "source_ami" {
  type        = string
  description = "Debian 13 AMI from which the base AMI is baked; * takes Debian's newest."
  default     = "*"
  validation {
    condition     = var.source_ami != "" && regex_replace(var.source_ami, "^([*]|ami-[0-9a-z]{8,32})$", "") == ""
    error_message = "The source_ami must look like ami-0123456789abcdef0, or be *."
  }
}

variable "base_ami" {
  type        = string
  description = "Base AMI from which the build `app` starts; required there."
  default     = ""
  validation {
    condition     = regex_replace(var.base_ami, "^ami-[0-9a-z]{8,32}$", "") == ""
    error_message = "The base_ami must look like ami-0123456789abcdef0; the build `base` makes one."
  }
}

variable "image_archive" {
  type        = string
  description = "File with the image, as `docker save` writes it; the build `app` needs it."
  default     = ""
  validation {
    condition     = var.image_archive == "" || try(fileexists(var.image_archive), false)
    error_message = "The image_archive must be an existing file, as `docker save` writes it."
  }
}

variable "image_name" {
  type        = string
  description = "Name and tag of the image, such as visitors:1.0.2-build.41."
  default     = ""
  validation {
    condition     = regex_replace(var.image_name, "^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == ""
    error_message = "The image_name must look like visitors:1.0.2-build.41."
  }
}

variable "image_id" {
  type        = string
  description = "Id of the image: the digest of its configuration, which covers all of its content."
  default     = ""
  validation {
    condition     = regex_replace(var.image_id, "^sha256:[0-9a-f]{64}$", "") == ""
    error_message = "The image_id must be sha256: and 64 hexadecimal digits."
  }
}

variable "database_ca_file" {
  type        = string
  description = "PEM file with certificate authorities for the database. Empty: those of RDS, which the role has."
  default     = ""
  validation {
    condition     = var.database_ca_file == "" || try(fileexists(var.database_ca_file), false)
    error_message = "The database_ca_file must be a file, or be empty."
  }
}

variable "ssm_agent_file" {
  type        = string
  description = "Package (.deb) of the SSM agent, for access to instances by Session Manager. Empty: no such access."
  default     = ""
  validation {
    condition     = var.ssm_agent_file == "" || try(fileexists(var.ssm_agent_file), false)
    error_message = "The ssm_agent_file must be a file, or be empty."
  }
}

variable "ssh_enabled" {
  type        = bool
  description = "Whether instances run SSH and have an account for their key pair."
  default     = false
}

# The tags.

variable "version" {
  type        = string
  description = "Version of the build, such as 1.0.2+build.41."
  default     = "0.0.0"
  validation {
    condition     = var.version != "" && regex_replace(var.version, "^[0-9]+([.][0-9]+){2}([+][0-9a-z.]+)?$", "") == ""
    error_message = "The version must look like 1.0.2+build.41; `make version` prints it."
  }
}

variable "commit" {
  type        = string
  description = "Commit of the working copy."
  default     = "unknown"
  validation {
    condition     = var.commit != "" && regex_replace(var.commit, "^(unknown|[0-9a-f]{40})$", "") == ""
    error_message = "The commit must be 40 hexadecimal digits; `git rev-parse HEAD` prints them."
  }
}

variable "build_time" {
  type        = string
  description = "Moment of the build, in UTC, such as 2026-01-02T03:04:05Z."
  default     = "unknown"
  validation {
    condition     = var.build_time != "" && regex_replace(var.build_time, "^(unknown|[0-9TZ:-]{20})$", "") == ""
    error_message = "The build_time must look like 2026-01-02T03:04:05Z."
  }
}

variable "input_hash" {
  type        = string
  description = "Hash of all inputs: an AMI with the same hash need not be baked again."
  default     = "unknown"
  validation {
    condition     = var.input_hash != "" && regex_replace(var.input_hash, "^(unknown|[0-9a-f]{8,64})$", "") == ""
    error_message = "The input_hash must be 8 to 64 hexadecimal digits."
  }
}

variable "run_id" {
  type        = string
  description = "Name of this bake, a tag on everything it creates, so that a killed bake can be cleaned up."
  default     = ""
  validation {
    condition     = regex_replace(var.run_id, "^[0-9A-Za-z._-]{1,64}$", "") == ""
    error_message = "The run_id must be 1 to 64 letters, digits, dots, dashes or underscores, or be empty."
  }
}

variable "build_url" {
  type        = string
  description = "URL of the CI job."
  default     = "none"
  validation {
    condition     = var.build_url != ""
    error_message = "The build_url must be a URL, or none."
  }
}

variable "created_by" {
  type        = string
  description = "Person or pipeline that runs the bake."
  default     = "packer"
  validation {
    condition     = var.created_by != ""
    error_message = "The created_by must not be empty."
  }
}

# The outputs.

variable "manifest" {
  type        = string
  description = "File for the ids of the AMIs; Packer appends to it, so its last build is the newest."
  default     = "build/manifest.json"
  validation {
    condition     = var.manifest != ""
    error_message = "The manifest must be the path of a file."
  }
}

variable "inventory_folder" {
  type        = string
  description = "Folder for the list of packages and the bill of materials of the AMI; created if necessary."
  default     = "build/inventory"
  validation {
    condition     = var.inventory_folder != ""
    error_message = "The inventory_folder must be the path of a folder."
  }
}

locals {
  ansible = "${abspath(path.root)}/ansible"
  # The role's own default, because a template cannot omit a variable of Ansible.
  database_ca_file = "${abspath(path.root)}/ansible/roles/application/files/etc/visitors/database-ca.pem"
  started          = formatdate("YYYYMMDDhhmmss", timestamp())
  run              = var.run_id == "" ? "visitors-${local.started}" : var.run_id
  # The name of an AMI must not contain a plus sign.
  suffix = "${replace(var.version, "+", "-")}-${var.input_hash}-${local.run}"

  tags = {
    Project   = "visitors"
    Version   = var.version
    Commit    = var.commit
    InputHash = var.input_hash
    SourceAmi = "{{ .SourceAMI }}"
    Released  = "false" # `release verify` changes it after the self-test of a copy
    BuildUrl  = var.build_url
    CreatedBy = var.created_by
    Run       = local.run
  }
  base_tags    = merge(local.tags, { Name = "visitors-base ${var.version}", Stage = "base" })
  app_tags     = merge(local.tags, { Name = "visitors ${var.version}", Stage = "app" })
  builder_tags = merge(local.tags, { Name = "visitors builder ${var.version}", Stage = "builder" })

  # The proxy of Packer 1.6 has an RSA key and signs with SHA-1, which OpenSSH from 8.8 on accepts only by option. It
  # listens on the loopback of the machine that runs Packer, and reaches the builder through Packer's communicator.
  proxy_arguments = [
    for argument in ["--ssh-extra-args=-o HostKeyAlgorithms=+ssh-rsa -o PubkeyAcceptedKeyTypes=+ssh-rsa"] : argument
    if var.ssh_interface == "session_manager"
  ]

  # All other settings are in ansible.cfg; its own path depends on this folder.
  ansible_environment = ["ANSIBLE_CONFIG=${local.ansible}/ansible.cfg"]
}

source "amazon-ebs" "visitors" {
  region                  = var.region
  custom_endpoint_ec2     = var.ec2_endpoint
  skip_region_validation  = true # it lists all regions, a permission that a bake does not need otherwise
  skip_metadata_api_check = true # a bake may run outside EC2

  instance_type = var.instance_type
  subnet_id     = var.subnet_id
  ena_support   = true
  # Encrypted when it is written; encrypt_boot would copy the finished AMI once more.
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    delete_on_termination = true
  }
  # A builder that turns itself off, after Packer was killed, is terminated.
  shutdown_behavior    = "terminate"
  iam_instance_profile = var.iam_instance_profile
  user_data_file       = var.user_data_file

  # Packer creates a key pair and a security group and deletes both at the end. Packer 1.6 tags neither of them: the
  # name of the key pair has the run, and the builder leads to the security group.
  ssh_username                          = var.ssh_username
  ssh_interface                         = var.ssh_interface
  temporary_key_pair_name               = "packer-${local.run}"
  temporary_security_group_source_cidrs = var.ssh_source_cidrs

  # Every wait has a limit. EC2 is polled every 15 s, or every AWS_POLL_DELAY_SECONDS.
  ssh_timeout            = "5m"
  ssh_handshake_attempts = 100
  pause_before_ssm       = "20s"
  aws_polling {
    max_attempts = 240
  }

  run_tags        = local.builder_tags
  run_volume_tags = local.builder_tags
}

build {
  name = "base"

  source "amazon-ebs.visitors" {
    name            = "base"
    ami_name        = "visitors-base-${local.suffix}"
    ami_description = "Debian 13 with a container engine, for the application visitors"
    tags            = local.base_tags
    snapshot_tags   = local.base_tags
    source_ami_filter {
      filters = {
        image-id            = var.source_ami
        name                = "debian-13-amd64-*"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners      = ["136693071363"] # Debian's own account
      most_recent = true
    }
  }

  provisioner "ansible" {
    playbook_file    = "${local.ansible}/base.yml"
    user             = var.ssh_username
    use_proxy        = var.ssh_interface == "session_manager"
    ansible_env_vars = local.ansible_environment
    extra_arguments = concat(local.proxy_arguments, ["--extra-vars=${jsonencode({
      inventory_folder  = abspath(var.inventory_folder)
      inventory_version = var.version
    })}"])
  }

  post-processor "manifest" {
    output      = var.manifest
    custom_data = { stage = "base" }
  }
}

build {
  name = "app"

  source "amazon-ebs.visitors" {
    name            = "app"
    ami_name        = "visitors-app-${local.suffix}"
    ami_description = "The application visitors ${var.version} with its boot"
    tags            = local.app_tags
    snapshot_tags   = local.app_tags
    source_ami      = var.base_ami
  }

  provisioner "ansible" {
    playbook_file    = "${local.ansible}/app.yml"
    user             = var.ssh_username
    use_proxy        = var.ssh_interface == "session_manager"
    ansible_env_vars = local.ansible_environment
    extra_arguments = concat(local.proxy_arguments, ["--extra-vars=${jsonencode({
      inventory_folder             = abspath(var.inventory_folder)
      inventory_version            = var.version
      access_ssh_enabled           = var.ssh_enabled
      access_ssm_agent_file        = var.ssm_agent_file == "" ? "" : abspath(var.ssm_agent_file)
      application_image_archive    = abspath(var.image_archive)
      application_image_name       = var.image_name
      application_image_id         = var.image_id
      application_version          = var.version
      application_commit           = var.commit
      application_build_time       = var.build_time
      application_database_ca_file = abspath(var.database_ca_file != "" ? var.database_ca_file : local.database_ca_file)
    })}"])
  }

  post-processor "manifest" {
    output      = var.manifest
    custom_data = { stage = "app" }
  }
}
