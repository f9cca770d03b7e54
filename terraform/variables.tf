# The whole difference between two installations stands in environments/*.tfvars; each apply adds ami_id and deploy_number.

variable "environment" {
  type        = string
  description = "Name of this installation: every resource's name and every parameter's path contains it."
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,14}$", var.environment))
    error_message = "environment must be 2 to 15 small letters and digits, such as staging, because names of load balancers have at most 32 characters."
  }
}

variable "region" {
  type        = string
  description = "Region of everything except Route 53's metrics, which are always in us-east-1."
}

variable "availability_zones" {
  type        = list(string)
  description = "Three zones of the region."
}

variable "vpc_cidr" {
  type        = string
  description = "IPv4 block of the VPC, from /16 to /20; different for each installation, so that two of them can be connected."
}

variable "nat" {
  type        = string
  description = "Way out of the private subnets: none (VPC endpoints), one or each (NAT gateways)."
  default     = "none"
}

variable "flow_logs" {
  type        = bool
  description = "Whether CloudWatch Logs keeps the VPC's flow logs."
  default     = false
}

# The release.

variable "ami_id" {
  type        = string
  description = "AMI that `make bake` released, such as ami-0123456789abcdef0."
}

variable "deploy_number" {
  type        = number
  description = "Number of this deploy, counted by the pipeline."
}

# The service.

variable "instance_type" {
  type        = string
  description = "Type of the instances."
}

variable "volume_gib" {
  type        = number
  description = "GiB of an instance's root volume."
  default     = 8
}

variable "volume_initialization_rate" {
  type        = number
  description = "MiB/s at which EBS fetches a new volume from its snapshot."
  default     = 100
}

variable "capacity" {
  type = object({
    min = number
    max = number
  })
  description = "Fewest and most instances."
}

variable "requests_per_instance" {
  type        = number
  description = "Requests per minute and instance at which scaling aims."
  default     = 3000
}

variable "scheduled_capacity" {
  type = map(object({
    recurrence = string
    time_zone  = string
    min        = number
    max        = number
  }))
  description = "Changes of capacity by the clock; empty by default."
  default     = {}
}

variable "application_settings" {
  type        = map(string)
  description = "Settings of the application, by the names of docs/instance.md."
  default     = {}
}

variable "retention_days" {
  type        = number
  description = "Days after which the application forgets a visitor who has not come back."
  default     = 365
}

variable "log_days" {
  type        = number
  description = "Days for which logs are kept."
  default     = 30
}

variable "instance_environment" {
  type        = map(string)
  description = "Endpoints for the AWS SDK of an instance outside AWS (AWS_*); empty on AWS."
  default     = {}
}

# The database.

variable "database" {
  type = object({
    engine_version = optional(string, "17")
    instance_class = string
    connections    = number
    multi_az       = bool
    storage_gib    = object({ initial = number, maximum = number })
    backup_days    = optional(number, 7)
  })
  description = "The database: PostgreSQL's major version, class and connections (max_connections) of the instance, a standby, GiB, days of backups."
}

# The edge.

variable "domain_name" {
  type        = string
  description = "Name that visitors type."
}

variable "zone_name" {
  type        = string
  description = "Hosted zone that holds the domain name."
}

variable "create_zone" {
  type        = bool
  description = "Whether this stack creates the hosted zone."
  default     = false
}

variable "requests_per_client" {
  type        = number
  description = "Requests that one address may send in five minutes before WAF refuses it; null for no WAF."
  default     = null
}

# People and protection.

variable "on_call" {
  type        = list(string)
  description = "E-mail addresses of the people on call."
}

variable "deletion_protection" {
  type        = bool
  description = "Whether AWS refuses to delete the database and the load balancer."
  default     = true
}
