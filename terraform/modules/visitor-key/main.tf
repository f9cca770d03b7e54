# The key of the hash that stands for a visitor. A module of its own, because Terraform cannot test an ephemeral resource
# with a mocked provider; the tests of the stack put a fixed secret in its place.

resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV_AWS_149: the key of AWS suffices, because a reader needs permission of Secrets Manager anyway
  # checkov:skip=CKV2_AWS_57: with another key every visitor would be new
  # A deleted secret keeps its name for 30 days; a random suffix lets the next installation start at once.
  name_prefix = "${trimprefix(var.parameter_prefix, "/")}/visitor-key-"
  description = "Key of the hash that stands for a visitor. It never changes: with another key every visitor is new."
}

# It exists while Terraform runs and in Secrets Manager, but neither in the plan nor in the state.
ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
  secret_string_wo_version = 1 # another number would write another key
}
