# Its name and its release.

variable "name" {
  type        = string
  description = "Name of this installation, such as visitors-staging."
}

variable "parameter_prefix" {
  type        = string
  description = "Path below which this installation's parameters and its log group lie, such as /visitors/staging."
}

variable "ami_id" {
  type        = string
  description = "AMI of the instances; it must have passed its self-test (tag Released=true)."
  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id must be the id of an AMI, such as ami-0123456789abcdef0. A literal id, because AWS cannot roll back a template that names its AMI by a parameter."
  }
}

variable "deploy_number" {
  type        = number
  description = "Number of this deploy, counted by the pipeline. A new number with the same AMI is a new attempt, which retries a failed migration."
  validation {
    condition     = var.deploy_number >= 0 && floor(var.deploy_number) == var.deploy_number
    error_message = "deploy_number must be a whole number, 0 or more."
  }
}

# Its instances.

variable "instance_type" {
  type        = string
  description = "Type of the instances."
}

variable "volume_gib" {
  type        = number
  description = "GiB of an instance's root volume; not less than the AMI's own."
  validation {
    condition     = var.volume_gib >= 8
    error_message = "volume_gib must be 8 or more: the AMI's own volume has 8 GiB."
  }
}

variable "volume_initialization_rate" {
  type        = number
  description = "MiB/s at which EBS fetches a new volume from its snapshot, from 100 to 300; AWS charges for it."
  validation {
    condition     = var.volume_initialization_rate >= 100 && var.volume_initialization_rate <= 300
    error_message = "volume_initialization_rate must be from 100 to 300 MiB/s."
  }
}

variable "capacity" {
  type = object({
    min = number
    max = number
  })
  description = "Fewest and most instances. Desired capacity belongs to scaling and to operations, not to Terraform."
  validation {
    condition     = var.capacity.min >= 1 && var.capacity.max >= var.capacity.min
    error_message = "capacity.min must be 1 or more and capacity.max not less than capacity.min."
  }
}

variable "requests_per_instance" {
  type        = number
  description = "Requests per minute and instance at which scaling aims (docs/scaling.md)."
  validation {
    condition     = var.requests_per_instance > 0
    error_message = "requests_per_instance must be more than 0."
  }
}

variable "scheduled_capacity" {
  type = map(object({
    recurrence = string
    time_zone  = string
    min        = number
    max        = number
  }))
  description = "Changes of the fewest and most instances by the clock, by name; recurrence as in cron."
  default     = {}
}

variable "instance_environment" {
  type        = map(string)
  description = "Further lines of instance.env, AWS_* only: endpoints for the AWS SDK of an instance outside AWS."
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.instance_environment) : startswith(name, "AWS_")])
    error_message = "instance_environment takes names that begin with AWS_ only; other settings belong to application_settings."
  }
}

# Its settings.

variable "application_settings" {
  type        = map(string)
  description = "Settings of the application, by the names of docs/instance.md, such as { SITE_NAME = \"Visitors\" }. No secret."
  default     = {}
  validation {
    condition = length(setintersection(keys(var.application_settings), [
      "DATABASE_URL", "MIGRATION_DATABASE_URL", "DATABASE_IAM_AUTHENTICATION", "TRUSTED_PROXIES", "PURGE_OLDER_THAN",
      "VISITOR_KEY", "DATABASE_PASSWORD", "MIGRATION_DATABASE_PASSWORD"
    ])) == 0
    error_message = "application_settings must name neither a setting of this module (database, proxies, retention) nor a secret."
  }
}

variable "visitor_key_secret_arn" {
  type        = string
  description = "Secret of Secrets Manager with the key of the hash that stands for a visitor."
}

variable "retention_days" {
  type        = number
  description = "Days after which the application forgets a visitor who has not come back."
  validation {
    condition     = var.retention_days >= 30
    error_message = "retention_days must be 30 or more, because the page shows 30 days."
  }
}

variable "log_days" {
  type        = number
  description = "Days for which logs are kept."
}

# Its network and database.

variable "vpc_id" {
  type        = string
  description = "VPC of the instances and the load balancer."
}

variable "public_subnet_ids" {
  type        = list(string)
  description = "Subnets of the load balancer."
}

variable "private_subnet_ids" {
  type        = list(string)
  description = "Subnets of the instances."
}

variable "endpoints_security_group_id" {
  type        = string
  description = "Security group of the VPC endpoints that instances call."
}

variable "has_nat" {
  type        = bool
  description = "Whether instances reach the AWS APIs by NAT instead of VPC endpoints."
}

variable "database" {
  type = object({
    address           = string
    port              = number
    database          = string
    owner             = string
    owner_secret_arn  = string
    resource_id       = string
    security_group_id = string
  })
  description = "The database: the outputs of the module `database`."
}

# Its way to visitors.

variable "certificate_arn" {
  type        = string
  description = "Certificate of the load balancer; it must be issued, or the listener cannot be created."
}

variable "requests_per_client" {
  type        = number
  description = "Requests that one address may send in five minutes before WAF refuses it; null for no WAF."
  default     = null
  validation {
    condition     = var.requests_per_client == null || try(var.requests_per_client >= 100, false)
    error_message = "requests_per_client must be 100 or more, or null, because WAF's minimum is 100."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether AWS refuses to delete the load balancer."
}

variable "permissions_boundary_arn" {
  type        = string
  description = "Policy of terraform/bootstrap that limits the roles of this module; the pipeline creates no role without it."
}
