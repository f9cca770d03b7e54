# Policies of the network, planned with a mocked provider.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_vpc" {
    defaults = { ipv6_cidr_block = "2001:db8:1234::/56" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/visitors-test-flow-logs" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/visitors/test/flow" }
  }
}

variables {
  name                     = "visitors-test"
  vpc_cidr                 = "10.20.0.0/16"
  availability_zones       = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  nat                      = "none"
  flow_logs                = false
  permissions_boundary_arn = "arn:aws:iam::123456789012:policy/visitors-test-boundary"
}

run "without_nat_nothing_but_the_apis_of_an_instance_is_reachable" {
  assert {
    condition     = length(aws_route.nat) == 0 && length(aws_nat_gateway.this) == 0
    error_message = "A private subnet has a way to the internet although nat = \"none\"."
  }
  assert {
    condition     = keys(aws_vpc_endpoint.interface) == ["autoscaling", "elasticloadbalancing", "logs", "monitoring", "secretsmanager", "ssm"]
    error_message = "An instance cannot boot, because one of its APIs is unreachable; or one endpoint too many is paid for."
  }
}

run "private_subnets_have_no_route_to_the_internet_gateway" {
  assert {
    condition     = aws_route.public_ipv4.route_table_id == aws_route_table.public.id && !contains([for table in aws_route_table.private : table.id], aws_route.public_ipv4.route_table_id)
    error_message = "Instances and the database would have a route from the internet."
  }
}

run "subnets_of_a_zone_do_not_overlap" {
  assert {
    condition     = length(distinct(concat([for subnet in aws_subnet.public : subnet.cidr_block], [for subnet in aws_subnet.private : subnet.cidr_block]))) == 6
    error_message = "Two subnets have the same block."
  }
}

run "the_default_security_group_has_no_rule" {
  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "An instance launched without a security group would be reachable by its neighbours."
  }
}

run "one_nat_gateway_serves_all_zones" {
  variables {
    nat = "one"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 3 && length(aws_vpc_endpoint.interface) == 0
    error_message = "nat = one must make one gateway, three routes and no paid endpoints."
  }
}

run "each_zone_has_its_own_nat_gateway" {
  variables {
    nat = "each"
  }
  assert {
    condition     = alltrue([for zone, route in aws_route.nat : route.nat_gateway_id == aws_nat_gateway.this[zone].id])
    error_message = "The loss of one zone would cut another zone off."
  }
}

run "flow_logs_may_write_to_their_own_log_group_only" {
  variables {
    flow_logs = true
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.flow[0].policy).Statement == [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
      Resource = "arn:aws:logs:eu-central-1:123456789012:log-group:/visitors/test/flow:*"
    }]
    error_message = "The flow logs' role may do something else than write flow logs."
  }
  assert {
    condition     = aws_iam_role.flow[0].permissions_boundary == "arn:aws:iam::123456789012:policy/visitors-test-boundary"
    error_message = "The pipeline's role may not create the flow logs' role."
  }
}

run "an_unknown_way_out_is_refused" {
  command = plan
  variables {
    nat = "two"
  }
  expect_failures = [var.nat]
}

run "two_zones_are_refused" {
  command = plan
  variables {
    availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1b"]
  }
  expect_failures = [var.availability_zones]
}

run "a_block_that_is_too_small_is_refused" {
  command = plan
  variables {
    vpc_cidr = "10.20.0.0/24"
  }
  expect_failures = [var.vpc_cidr]
}
