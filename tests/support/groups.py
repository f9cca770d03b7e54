"""An Auto Scaling group of moto whose only machine waits for its launch hook, and the target group behind it."""

from tests.support.cloud import Cloud, REGION, state_of
from tests.support.machine_folder import DEPLOY, FolderMachine, PREFIX

GROUP, HOOK = 'visitors', 'launch'


class Launched:
    def __init__(self, cloud: Cloud, machine: FolderMachine, balanced: bool = True) -> None:
        """Launch a machine by a group; a target group learns of it when the hook is told to go on, as on AWS."""
        ec2, groups = cloud.client('ec2'), cloud.client('autoscaling')
        self._balancers = cloud.client('elbv2')
        network = ec2.describe_vpcs()['Vpcs'][0]['VpcId']
        subnets = [each['SubnetId'] for each in ec2.describe_subnets()['Subnets']][:2]
        self.target_group = self._make_target_group(network, subnets) if balanced else ''
        image = ec2.register_image(Name=GROUP, Architecture='x86_64', RootDeviceName='/dev/xvda')['ImageId']
        ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData={'ImageId': image})
        groups.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, MinSize=1, MaxSize=1, VPCZoneIdentifier=subnets[0],
            LaunchTemplate={'LaunchTemplateName': GROUP, 'Version': '1'},
            TargetGroupARNs=[self.target_group] if balanced else [])
        (known,) = groups.describe_auto_scaling_instances()['AutoScalingInstances']
        self.instance = known['InstanceId']
        self.state = state_of(self.instance)
        self.state.lifecycle_state = 'Pending:Wait'
        if balanced:
            # moto registers it at once, AWS after the hook.
            self._balancers.deregister_targets(TargetGroupArn=self.target_group, Targets=[{'Id': self.instance}])
            cloud.on_continue = self.register
        machine.be(self.instance)
        self.user_data = {'PARAMETER_PREFIX': PREFIX, 'AWS_REGION': REGION, 'DEPLOY_ID': DEPLOY,
                          'LIFECYCLE_HOOK': HOOK}
        machine.tell(**self.user_data)

    def register(self, instance: str) -> None:
        """Make an instance known to the target group; moto takes it for healthy at once."""
        self._balancers.register_targets(TargetGroupArn=self.target_group, Targets=[{'Id': instance}])

    def _make_target_group(self, network: str, subnets: list[str]) -> str:
        group = self._balancers.create_target_group(Name=GROUP, Protocol='HTTP', Port=8000, VpcId=network)
        arn = str(group['TargetGroups'][0]['TargetGroupArn'])
        balancer = self._balancers.create_load_balancer(Name=GROUP, Subnets=subnets)
        self._balancers.create_listener(
            LoadBalancerArn=balancer['LoadBalancers'][0]['LoadBalancerArn'], Protocol='HTTP', Port=80,
            DefaultActions=[{'Type': 'forward', 'TargetGroupArn': arn}])
        return arn
