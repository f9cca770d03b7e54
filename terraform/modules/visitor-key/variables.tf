variable "parameter_prefix" {
  type        = string
  description = "Path below which this installation's parameters lie, such as /visitors/staging; the secret's name begins with it."
}
