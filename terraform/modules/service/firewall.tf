# The permitted connections, by security group: internet → load balancer → instances → database and AWS APIs.

resource "aws_security_group" "load_balancer" {
  name        = "${var.name}-load-balancer"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-load-balancer" }
}

resource "aws_security_group" "instances" {
  name        = "${var.name}-instances"
  description = "Instances of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-instances" }
}

locals {
  # The only two ports that are open to the internet: the page, and the redirect to it.
  public_ports = { http = 80, https = 443 }
}

resource "aws_vpc_security_group_ingress_rule" "internet_ipv4" {
  # checkov:skip=CKV_AWS_260: port 80 redirects to HTTPS, because visitors type the name alone
  for_each = local.public_ports

  security_group_id = aws_security_group.load_balancer.id
  description       = "Visitors by ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "internet_ipv6" {
  for_each = local.public_ports

  security_group_id = aws_security_group.load_balancer.id
  description       = "Visitors by ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv6         = "::/0"
}

resource "aws_vpc_security_group_egress_rule" "load_balancer_to_instances" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "Requests and health checks"
  ip_protocol                  = "tcp"
  from_port                    = local.application_port
  to_port                      = local.application_port
  referenced_security_group_id = aws_security_group.instances.id
}

# From the load balancer only, because the application trusts the address that it appends.
resource "aws_vpc_security_group_ingress_rule" "instances_from_load_balancer" {
  security_group_id            = aws_security_group.instances.id
  description                  = "Requests and health checks"
  ip_protocol                  = "tcp"
  from_port                    = local.application_port
  to_port                      = local.application_port
  referenced_security_group_id = aws_security_group.load_balancer.id
}

resource "aws_vpc_security_group_egress_rule" "instances_to_database" {
  security_group_id            = aws_security_group.instances.id
  description                  = "PostgreSQL"
  ip_protocol                  = "tcp"
  from_port                    = var.database.port
  to_port                      = var.database.port
  referenced_security_group_id = var.database.security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "database_from_instances" {
  security_group_id            = var.database.security_group_id
  description                  = "PostgreSQL"
  ip_protocol                  = "tcp"
  from_port                    = var.database.port
  to_port                      = var.database.port
  referenced_security_group_id = aws_security_group.instances.id
}

resource "aws_vpc_security_group_egress_rule" "instances_to_endpoints" {
  count = var.has_nat ? 0 : 1

  security_group_id            = aws_security_group.instances.id
  description                  = "AWS APIs by VPC endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = var.endpoints_security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_instances" {
  count = var.has_nat ? 0 : 1

  security_group_id            = var.endpoints_security_group_id
  description                  = "AWS APIs by VPC endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.instances.id
}

# AWS publishes no short list of its APIs' addresses, so with NAT the way out is open for TLS.
resource "aws_vpc_security_group_egress_rule" "instances_to_internet" {
  count = var.has_nat ? 1 : 0

  security_group_id = aws_security_group.instances.id
  description       = "AWS APIs by NAT"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
