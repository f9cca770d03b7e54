"""An Auto Scaling group whose only instance waits for its launch hook, and the target group behind it."""

from threading import Event
from typing import Any

from rehearsal.calls import Call
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import SIZE, texts_of
from tests.support.machine_folder import DEPLOY, FolderMachine, PREFIX
from tests.support.waiting import eventually

GROUP, HOOK = 'visitors', 'launch'
LAUNCHING = 'autoscaling:EC2_INSTANCE_LAUNCHING'
COMPLETE, HEARTBEAT = 'CompleteLifecycleAction', 'RecordLifecycleActionHeartbeat'


class LaunchedGroup:
    """A group that has launched the machine of a test; its target group learns of it when the hook is completed."""

    def __init__(self, aws: EmbeddedRehearsal, machine: FolderMachine, balanced: bool = True) -> None:
        """Launch the machine, and return when the hook waits for it."""
        self._aws = aws
        self._groups = aws.client('autoscaling')
        ec2 = aws.client('ec2')
        network = ec2.describe_vpcs()['Vpcs'][0]['VpcId']
        subnets = [each['SubnetId'] for each in ec2.describe_subnets()['Subnets']][:2]
        self.target_group = self._make_target_group(network, subnets) if balanced else ''
        ec2.create_launch_template(
            LaunchTemplateName=GROUP, LaunchTemplateData={'ImageId': aws.source_ami, 'InstanceType': SIZE})
        self._groups.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, MinSize=1, MaxSize=1, VPCZoneIdentifier=subnets[0],
            LaunchTemplate={'LaunchTemplateName': GROUP, 'Version': '1'},
            TargetGroupARNs=[self.target_group] if balanced else [],
            LifecycleHookSpecificationList=[{'LifecycleHookName': HOOK, 'LifecycleTransition': LAUNCHING}])
        self.wait_for('Pending:Wait')
        self.instance = str(self._members()[0]['InstanceId'])
        machine.become(self.instance)
        self.user_data = {'PARAMETER_PREFIX': PREFIX, 'AWS_REGION': aws.region, 'DEPLOY_ID': DEPLOY,
                          'LIFECYCLE_HOOK': HOOK}
        machine.write_user_data(**self.user_data)
        aws.faults.clear()

    def wait_for(self, state: str) -> None:
        """Return when the instance is in this state."""
        eventually(lambda: [each['LifecycleState'] for each in self._members()] == [state], f'it is {state}')

    def complete(self) -> None:
        """Complete the hook in the machine's place, and return when the machine is in service."""
        self._groups.complete_lifecycle_action(
            LifecycleHookName=HOOK, AutoScalingGroupName=GROUP, InstanceId=self.instance,
            LifecycleActionResult='CONTINUE')
        self.wait_for('InService')
        self._aws.faults.clear()

    def show(self, state: str, after_complete: bool = False, until: Event | None = None) -> None:
        """Let the API show the instance in a state that takes a group long, or that the rehearsal lacks.

        The state begins now, when no hook waits, or when the hook was completed; an event may end it.
        """
        def applies(_call: Call) -> bool:
            return (not after_complete or bool(self.completed())) and not (until and until.is_set())

        member = {'InstanceId': self.instance, 'AutoScalingGroupName': GROUP, 'LifecycleState': state,
                  'AvailabilityZone': f'{self._aws.region}a', 'HealthStatus': 'HEALTHY',
                  'ProtectedFromScaleIn': False}
        self._aws.faults.answer('DescribeAutoScalingInstances', result={'AutoScalingInstances': [member]},
                                when=applies)
        if after_complete:
            return
        self._aws.faults.refuse(COMPLETE, status=400, code='ValidationError', when=applies,
                                message=f'No active Lifecycle Action found with instance ID {self.instance}')

    def show_health(self, state: str, reason: str, description: str) -> None:
        """Let the target group find the instance in this health."""
        health = {'State': state, 'Reason': reason, 'Description': description}
        described = {'Target': {'Id': self.instance, 'Port': 8000}, 'TargetHealth': health}
        self._aws.faults.answer('DescribeTargetHealth', result={'TargetHealthDescriptions': [described]})

    def completed(self) -> list[str]:
        """Return the texts of the calls that complete the hook."""
        return texts_of(self._aws, COMPLETE)

    def detach(self) -> None:
        """Take the instance out of its group, whose size may then be 0; return after it leaves, without a drain."""
        if self.target_group:
            self._aws.client('elbv2').modify_target_group_attributes(
                TargetGroupArn=self.target_group,
                Attributes=[{'Key': 'deregistration_delay.timeout_seconds', 'Value': '0'}])
        self._groups.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=0)
        self._groups.detach_instances(
            InstanceIds=[self.instance], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True)
        eventually(lambda: not self._members(), 'the group has no instance')

    def _members(self) -> list[dict[str, Any]]:
        return list(self._groups.describe_auto_scaling_instances()['AutoScalingInstances'])

    def _make_target_group(self, network: str, subnets: list[str]) -> str:
        balancers = self._aws.client('elbv2')
        group = balancers.create_target_group(Name=GROUP, Protocol='HTTP', Port=8000, VpcId=network)
        arn = str(group['TargetGroups'][0]['TargetGroupArn'])
        balancer = balancers.create_load_balancer(Name=GROUP, Subnets=subnets)
        balancers.create_listener(
            LoadBalancerArn=balancer['LoadBalancers'][0]['LoadBalancerArn'], Protocol='HTTP', Port=80,
            DefaultActions=[{'Type': 'forward', 'TargetGroupArn': arn}])
        return arn
