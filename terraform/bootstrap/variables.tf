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
