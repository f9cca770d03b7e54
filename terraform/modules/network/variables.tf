variable "name" {
  type        = string
  description = "Name of this installation, such as visitors-staging; every resource's name begins with it."
}

variable "vpc_cidr" {
  type        = string
  description = "IPv4 block of the VPC, from /16 to /20."
  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 4, 0)) && contains(range(16, 21), try(tonumber(split("/", var.vpc_cidr)[1]), 0))
    error_message = "vpc_cidr must be an IPv4 block from /16 to /20, such as 10.20.0.0/16."
  }
}

variable "availability_zones" {
  type        = list(string)
  description = "Three availability zones; named, because then a new zone of the region changes no plan."
  validation {
    condition     = length(distinct(var.availability_zones)) == 3
    error_message = "availability_zones must name three different zones, such as eu-central-1a, eu-central-1b, eu-central-1c."
  }
}

variable "nat" {
  type        = string
  description = "Way out of the private subnets: none (VPC endpoints for the AWS APIs that an instance calls), one, or each (a NAT gateway in one zone, or in each)."
  validation {
    condition     = contains(["none", "one", "each"], var.nat)
    error_message = "nat must be none, one or each."
  }
}

variable "flow_logs" {
  type        = bool
  description = "Whether CloudWatch Logs keeps the VPC's flow logs, for 30 days."
}

variable "permissions_boundary_arn" {
  type        = string
  description = "Policy of terraform/bootstrap that limits the roles of this module; the pipeline creates no role without it."
}
