# The load balancer: TLS for visitors, health checks for the group.

resource "aws_lb" "this" {
  # checkov:skip=CKV2_AWS_76: no Java runs here
  name               = var.name
  load_balancer_type = "application"
  ip_address_type    = "dualstack"
  subnets            = var.public_subnet_ids
  security_groups    = [aws_security_group.load_balancer.id]

  enable_deletion_protection = var.deletion_protection
  drop_invalid_header_fields = true
  xff_header_processing_mode = "append" # the application trusts the last entry only
  idle_timeout               = 60       # less than gunicorn's keep-alive of 75 s, or requests meet closing connections

  access_logs {
    bucket  = aws_s3_bucket.access_logs.id
    enabled = true
  }

  depends_on = [aws_s3_bucket_policy.access_logs]
}

resource "aws_lb_target_group" "this" {
  name        = var.name
  vpc_id      = var.vpc_id
  target_type = "instance"
  protocol    = "HTTP"
  port        = local.application_port

  # Not /readyz, because the group would replace instances that recover by themselves from an unavailable database.
  health_check {
    path                = "/livez"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  # Longer than the slowest answer (3 s) and gunicorn's graceful end (8 s), and shorter than AWS's default of five minutes.
  deregistration_delay          = 30
  load_balancing_algorithm_type = "least_outstanding_requests"
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.certificate_arn
  # TLS 1.2 too, because Route 53's health checkers speak nothing newer.
  ssl_policy = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"

  routing_http_response_server_enabled                         = false
  routing_http_response_strict_transport_security_header_value = "max-age=31536000"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  routing_http_response_server_enabled = false

  default_action {
    type = "redirect"
    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_wafv2_web_acl" "this" {
  # checkov:skip=CKV_AWS_192: no Java runs here
  # checkov:skip=CKV2_AWS_31: its log would hold addresses of visitors
  count = var.requests_per_client == null ? 0 : 1

  name        = var.name
  description = "Limits the requests of one address"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "requests-per-client"
    priority = 1
    action {
      block {}
    }
    statement {
      rate_based_statement {
        limit                 = var.requests_per_client
        aggregate_key_type    = "IP"
        evaluation_window_sec = 300
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "requests-per-client"
      sampled_requests_enabled   = false # samples hold visitors' addresses
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = false
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = var.requests_per_client == null ? 0 : 1

  resource_arn = aws_lb.this.arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}
