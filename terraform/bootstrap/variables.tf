variable "region" {
  type        = string
  description = "Region of the buckets and of the account's defaults."
}

variable "gitlab_url" {
  type        = string
  description = "URL of the GitLab that runs the pipelines, without a final slash; its tokens name it as their issuer."
  default     = "https://gitlab.com"
  validation {
    condition     = can(regex("^https://[a-z0-9.-]+$", var.gitlab_url))
    error_message = "gitlab_url must look like https://gitlab.com, without a final slash, as the issuer in the tokens."
  }
}

variable "gitlab_project" {
  type        = string
  description = "Project of that GitLab whose pipelines take the roles: its groups and its name, such as group/visitors."
  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$", var.gitlab_project))
    error_message = "gitlab_project must be the path of one project, such as group/visitors, without a wildcard."
  }
}

variable "branch" {
  type        = string
  description = "Protected branch whose jobs take the roles."
  default     = "main"
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_./-]*$", var.branch))
    error_message = "branch must be the name of one branch, such as main, without a wildcard."
  }
}

variable "environments" {
  type = map(object({
    domain_name = string
  }))
  description = "Environments by name, with their domain names as in environments/NAME.tfvars; each has a role to plan and one to apply."
  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in keys(var.environments) : can(regex("^[a-z][a-z0-9]{1,14}$", name)) && name != "bake"])
    error_message = "environments must have names of 2 to 15 small letters and digits, such as staging, and none may be bake, because /visitors/bake holds the leases of bakes."
  }
  validation {
    condition     = alltrue([for environment in values(var.environments) : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]{2,}$", environment.domain_name))])
    error_message = "The domain_name of each environment must be a name such as visitors.example.com, in small letters, without a final dot or a wildcard."
  }
}

variable "monthly_budget_usd" {
  type        = number
  description = "US dollars a month; a forecast above it, and 80 % of it spent, send a message to budget_emails."
  validation {
    condition     = var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd must be more than 0."
  }
}

variable "budget_emails" {
  type        = list(string)
  description = "E-mail addresses that receive warnings about costs."
  validation {
    condition     = length(var.budget_emails) > 0
    error_message = "budget_emails must hold at least one address, or a warning reaches no person."
  }
}
