"""The list of all extensions of moto; only listed ones are installed."""

from rehearsal.api.account_defaults import AccountDefaults
from rehearsal.api.alarm_actions import AlarmActions, AlarmStates
from rehearsal.api.amis import AmiActions, AmiCopies, AmiDisks
from rehearsal.api.buckets import BucketPolicies
from rehearsal.api.budgets import BudgetActions
from rehearsal.api.certificates import CertificateRequests
from rehearsal.api.databases import DatabaseActions, DatabaseCalls, Databases, Events, ParameterGroups
from rehearsal.api.event_targets import RuleTargets, TargetActions
from rehearsal.api.group_actions import GroupActions, Groups, Members
from rehearsal.api.group_members import GroupInstances
from rehearsal.api.group_metrics import MetricActions
from rehearsal.api.health_check_actions import HealthCheckStatus, NewHealthChecks
from rehearsal.api.image_references import ImageReferences
from rehearsal.api.instances import Consoles, Launches, PowerActions
from rehearsal.api.launch_templates import NewTemplates, TemplateActions, TemplateVersions
from rehearsal.api.load_balancer_actions import LoadBalancerActions, LoadBalancerRecords, WebAcls
from rehearsal.api.master_secrets import MasterSecrets, Rotations
from rehearsal.api.metric_filters import FilteredLogs, MetricFilterActions
from rehearsal.api.network_interfaces import NatGateways, SubnetEnds
from rehearsal.api.networks import Subnets, Vpcs
from rehearsal.api.notifications import Deliveries
from rehearsal.api.patching import Extension
from rehearsal.api.refresh_actions import RefreshActions
from rehearsal.api.scaling_policies import PolicyActions, PolicyEnds, ScalingPolicies
from rehearsal.api.scheduled_actions import ScheduledActions
from rehearsal.api.security_groups import DefaultGroups, Revocations, Rules
from rehearsal.api.target_health import Registrations, TargetHealthDescriptions
from rehearsal.api.volumes import Snapshots

EXTENSIONS: tuple[type[Extension], ...] = (
    AccountDefaults,
    AlarmActions,
    AlarmStates,
    AmiActions,
    AmiCopies,
    AmiDisks,
    BucketPolicies,
    BudgetActions,
    CertificateRequests,
    Consoles,
    DatabaseActions,
    DatabaseCalls,
    Databases,
    DefaultGroups,
    Deliveries,
    Events,
    FilteredLogs,
    GroupActions,
    GroupInstances,
    Groups,
    HealthCheckStatus,
    ImageReferences,
    Launches,
    LoadBalancerActions,
    LoadBalancerRecords,
    MasterSecrets,
    Members,
    MetricActions,
    MetricFilterActions,
    NatGateways,
    NewHealthChecks,
    NewTemplates,
    ParameterGroups,
    PolicyActions,
    PolicyEnds,
    PowerActions,
    RefreshActions,
    Registrations,
    Revocations,
    Rotations,
    RuleTargets,
    Rules,
    ScalingPolicies,
    ScheduledActions,
    Snapshots,
    SubnetEnds,
    Subnets,
    TargetActions,
    TargetHealthDescriptions,
    TemplateActions,
    TemplateVersions,
    Vpcs,
    WebAcls,
)
