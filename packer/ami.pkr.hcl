# The machine image in two builds: `base` is the system, its engine and its rules; `app` is one version of the
# application on it. packer build -only='base.*' packer; packer build -only='app.*' -var=base_ami=ami-1 packer
# Plain enough for Packer 1.6.6 and for 1.14 and newer: docs/decisions/0007-two-packers.md.

# Where it is built.

variable "region" {
  type        = string
  description = "Region that the image is built in. Empty: AWS_REGION or AWS_DEFAULT_REGION of the environment."
  default     = ""
  validation {
    condition     = regex_replace(var.region, "^[a-z]{2,3}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The region must look like eu-central-1, or be empty."
  }
}

variable "ec2_endpoint" {
  type        = string
  description = "URL of EC2's API where it is not the region's own; Packer 1.6 does not know AWS_ENDPOINT_URL."
  default     = ""
  validation {
    condition     = regex_replace(var.ec2_endpoint, "^https?://[^/ ]+$", "") == ""
    error_message = "The ec2_endpoint must look like https://ec2.example.com, or be empty."
  }
}

variable "instance_type" {
  type        = string
  description = "Type of the machine that is changed into the image; the image does not depend on it."
  default     = "t3.small"
  validation {
    condition     = var.instance_type != "" && regex_replace(var.instance_type, "^[a-z0-9-]+[.][a-z0-9-]+$", "") == ""
    error_message = "The instance_type must look like t3.small."
  }
}

variable "volume_size" {
  type        = number
  description = "GiB of the root volume; an instance fetches each block that it reads from the snapshot."
  default     = 8
  validation {
    condition     = var.volume_size >= 8 && var.volume_size <= 64
    error_message = "The volume_size must be 8 to 64 GiB; Debian's own images have 8."
  }
}

variable "subnet_id" {
  type        = string
  description = "Subnet of that machine; it must reach Debian's archive. Empty: the default VPC's."
  default     = ""
  validation {
    condition     = regex_replace(var.subnet_id, "^subnet-[0-9a-f]{8,17}$", "") == ""
    error_message = "The subnet_id must look like subnet-0123456789abcdef0, or be empty."
  }
}

# How it is reached.

variable "ssh_username" {
  type        = string
  description = "Account that the source image makes for whoever has the key; Debian's images for EC2 call it admin."
  default     = "admin"
  validation {
    condition     = var.ssh_username != "" && regex_replace(var.ssh_username, "^[a-z_][a-z0-9_-]*$", "") == ""
    error_message = "The ssh_username must be the name of an account, such as admin."
  }
}

variable "ssh_interface" {
  type        = string
  description = "Where SSH goes: public_ip, private_ip, public_dns, private_dns; or session_manager, without a port."
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
  description = "Who may reach SSH while it is built: your address, as in 198.51.100.7/32; `release bake` finds it."
  validation {
    condition = (
      length(var.ssh_source_cidrs) > 0 &&
      contains(var.ssh_source_cidrs, "0.0.0.0/0") == false && contains(var.ssh_source_cidrs, "::/0") == false
    )
    error_message = "The ssh_source_cidrs must name the addresses that you come from, and not everybody's."
  }
}

variable "iam_instance_profile" {
  type        = string
  description = "Instance profile of that machine; session_manager needs AmazonSSMManagedInstanceCore in it."
  default     = ""
  validation {
    condition     = regex_replace(var.iam_instance_profile, "^[0-9A-Za-z+=,.@_-]{1,128}$", "") == ""
    error_message = "The iam_instance_profile must be the name of a profile, or be empty."
  }
}

variable "user_data_file" {
  type        = string
  description = "User data of that machine; for session_manager it installs the SSM agent, which Debian has not."
  default     = ""
  validation {
    condition     = var.user_data_file == "" || try(fileexists(var.user_data_file), false)
    error_message = "The user_data_file must be a file, or be empty."
  }
}

# What it is made from.

variable "source_ami" {
  type        = string
  description = "Image of Debian 13 that the base image starts from; * takes the newest of Debian."
  default     = "*"
  validation {
    condition     = var.source_ami != "" && regex_replace(var.source_ami, "^([*]|ami-[0-9a-z]{8,32})$", "") == ""
    error_message = "The source_ami must look like ami-0123456789abcdef0, or be *."
  }
}

variable "base_ami" {
  type        = string
  description = "Base image that the application's image starts from; the build `app` needs it."
  default     = ""
  validation {
    condition     = regex_replace(var.base_ami, "^ami-[0-9a-z]{8,32}$", "") == ""
    error_message = "The base_ami must look like ami-0123456789abcdef0; the build `base` makes one."
  }
}

variable "image_archive" {
  type        = string
  description = "File that `docker save` has written of the application's container image; the build `app` needs it."
  default     = ""
  validation {
    condition     = var.image_archive == "" || try(fileexists(var.image_archive), false)
    error_message = "The image_archive must be a file that `docker save` has written; there is none of that name."
  }
}

variable "image_name" {
  type        = string
  description = "Name and tag of that container image, as in visitors:1.0.2-build.41."
  default     = ""
  validation {
    condition     = regex_replace(var.image_name, "^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == ""
    error_message = "The image_name must look like visitors:1.0.2-build.41."
  }
}

variable "image_id" {
  type        = string
  description = "Digest of that container image's configuration, which names all of its content."
  default     = ""
  validation {
    condition     = regex_replace(var.image_id, "^sha256:[0-9a-f]{64}$", "") == ""
    error_message = "The image_id must be sha256: and 64 hexadecimal digits."
  }
}

variable "database_ca_file" {
  type        = string
  description = "PEM file of whom to trust with the database, such as RDS's bundle. Empty: only whom Debian trusts."
  default     = ""
  validation {
    condition     = var.database_ca_file == "" || try(fileexists(var.database_ca_file), false)
    error_message = "The database_ca_file must be a file, or be empty."
  }
}

variable "ssm_agent_file" {
  type        = string
  description = "Package (.deb) of the SSM agent, to reach instances by Session Manager. Empty: no such way in."
  default     = ""
  validation {
    condition     = var.ssm_agent_file == "" || try(fileexists(var.ssm_agent_file), false)
    error_message = "The ssm_agent_file must be a file, or be empty."
  }
}

variable "ssh_enabled" {
  type        = bool
  description = "Whether instances answer SSH and have an account for the key pair that they are started with."
  default     = false
}

# What it is called.

variable "version" {
  type        = string
  description = "Version of the build, as in 1.0.2+build.41."
  default     = "0.0.0"
  validation {
    condition     = var.version != "" && regex_replace(var.version, "^[0-9]+([.][0-9]+){2}([+][0-9a-z.]+)?$", "") == ""
    error_message = "The version must look like 1.0.2+build.41; `make version` prints it."
  }
}

variable "commit" {
  type        = string
  description = "Commit that it is built from."
  default     = "unknown"
  validation {
    condition     = var.commit != "" && regex_replace(var.commit, "^(unknown|[0-9a-f]{40})$", "") == ""
    error_message = "The commit must be 40 hexadecimal digits; `git rev-parse HEAD` prints them."
  }
}

variable "build_time" {
  type        = string
  description = "Moment of the build, in UTC, as in 2026-01-02T03:04:05Z."
  default     = "unknown"
  validation {
    condition     = var.build_time != "" && regex_replace(var.build_time, "^(unknown|[0-9TZ:-]{20})$", "") == ""
    error_message = "The build_time must look like 2026-01-02T03:04:05Z."
  }
}

variable "input_hash" {
  type        = string
  description = "Key of everything that goes in: an image that has it need not be built again."
  default     = "unknown"
  validation {
    condition     = var.input_hash != "" && regex_replace(var.input_hash, "^(unknown|[0-9a-f]{8,64})$", "") == ""
    error_message = "The input_hash must be 8 to 64 hexadecimal digits."
  }
}

variable "run_id" {
  type        = string
  description = "Name of this run; all that it makes is tagged with it, so that it can be found if the run is killed."
  default     = ""
  validation {
    condition     = regex_replace(var.run_id, "^[0-9A-Za-z._-]{1,64}$", "") == ""
    error_message = "The run_id must be 1 to 64 letters, digits, dots, dashes or underscores, or be empty."
  }
}

variable "build_url" {
  type        = string
  description = "Page of the CI job that builds it."
  default     = "none"
  validation {
    condition     = var.build_url != ""
    error_message = "The build_url must be a URL, or none."
  }
}

variable "created_by" {
  type        = string
  description = "Who builds it."
  default     = "packer"
  validation {
    condition     = var.created_by != ""
    error_message = "The created_by must name somebody or something."
  }
}

# What comes back.

variable "manifest" {
  type        = string
  description = "File that tells the ids of the images; Packer adds to it, the last build in it is the newest."
  default     = "build/manifest.json"
  validation {
    condition     = var.manifest != ""
    error_message = "The manifest must be the path of a file."
  }
}

variable "inventory_folder" {
  type        = string
  description = "Folder for the list of all packages in the image and its bill of materials; made if it is not there."
  default     = "build/inventory"
  validation {
    condition     = var.inventory_folder != ""
    error_message = "The inventory_folder must be the path of a folder."
  }
}

locals {
  ansible = "${abspath(path.root)}/ansible"
  started = formatdate("YYYYMMDDhhmmss", timestamp())
  run     = var.run_id == "" ? "visitors-${local.started}" : var.run_id
  # An image's name may not hold a plus sign.
  suffix = "${replace(var.version, "+", "-")}-${var.input_hash}-${local.run}"

  tags = {
    Project   = "visitors"
    Version   = var.version
    Commit    = var.commit
    InputHash = var.input_hash
    SourceAmi = "{{ .SourceAMI }}"
    Released  = "false" # only a copy that has booted and served may change this
    BuildUrl  = var.build_url
    CreatedBy = var.created_by
    Run       = local.run
  }
  base_tags    = merge(local.tags, { Name = "visitors-base ${var.version}", Stage = "base" })
  app_tags     = merge(local.tags, { Name = "visitors ${var.version}", Stage = "app" })
  builder_tags = merge(local.tags, { Name = "visitors builder ${var.version}", Stage = "builder" })

  # The proxy of Packer 1.6 has an RSA key and signs with SHA-1, which OpenSSH 8.8 and newer accept only if asked to. It
  # listens on this machine's loopback, and its way to the instance is the communicator's own.
  proxy_arguments = [
    for argument in ["--ssh-extra-args=-o HostKeyAlgorithms=+ssh-rsa -o PubkeyAcceptedKeyTypes=+ssh-rsa"] : argument
    if var.ssh_interface == "session_manager"
  ]

  # Colours and interpreters are told by the configuration; what is here depends on where this file lies.
  ansible_environment = ["ANSIBLE_CONFIG=${local.ansible}/ansible.cfg"]
}

source "amazon-ebs" "visitors" {
  region                  = var.region
  custom_endpoint_ec2     = var.ec2_endpoint
  skip_region_validation  = true # it asks for all regions, which a role that only builds need not be allowed to
  skip_metadata_api_check = true # who builds need not be on EC2

  instance_type = var.instance_type
  subnet_id     = var.subnet_id
  ena_support   = true
  # Encrypted as it is written; encrypt_boot would copy the finished image once more.
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    delete_on_termination = true
  }
  # A machine that is turned off from within, while nobody builds any more, is gone.
  shutdown_behavior    = "terminate"
  iam_instance_profile = var.iam_instance_profile
  user_data_file       = var.user_data_file

  # With a key and a security group of its own, deleted when it is done. Packer 1.6 tags neither; the name of the key says
  # whose it is, and the machine whose group.
  ssh_username                          = var.ssh_username
  ssh_interface                         = var.ssh_interface
  temporary_key_pair_name               = "packer-${local.run}"
  temporary_security_group_source_cidrs = var.ssh_source_cidrs

  # No wait is without end. EC2 is asked every 15 s, or as often as AWS_POLL_DELAY_SECONDS says.
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
    ami_description = "The application visitors ${var.version}, with what boots it"
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
      application_database_ca_file = var.database_ca_file == "" ? "" : abspath(var.database_ca_file)
    })}"])
  }

  post-processor "manifest" {
    output      = var.manifest
    custom_data = { stage = "app" }
  }
}
