"""Network interfaces, subnets and VPCs: addresses, tags, and refused deletions."""

from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import SIZE


class Network:
    """A VPC of its own with one subnet."""

    def __init__(self, aws: EmbeddedRehearsal) -> None:
        """Make both."""
        self._aws, self.ec2 = aws, aws.client('ec2')
        self.vpc = self.ec2.create_vpc(CidrBlock='10.9.0.0/16')['Vpc']['VpcId']
        made = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock='10.9.1.0/24', AvailabilityZone='us-east-1c')
        self.subnet = made['Subnet']['SubnetId']

    def launch(self, **options: Any) -> dict[str, Any]:
        """Return a new instance."""
        made = self.ec2.run_instances(ImageId=self._aws.source_ami, InstanceType=SIZE, MinCount=1, MaxCount=1,
                                      **options)
        return dict(made['Instances'][0])

    def end(self, instance: dict[str, Any]) -> None:
        """Terminate an instance."""
        self.ec2.terminate_instances(InstanceIds=[instance['InstanceId']])

    @property
    def interfaces(self) -> list[dict[str, Any]]:
        """The network interfaces of the VPC."""
        filters = [{'Name': 'vpc-id', 'Values': [self.vpc]}]
        return list(self.ec2.describe_network_interfaces(Filters=filters)['NetworkInterfaces'])


@pytest.fixture
def network(aws: EmbeddedRehearsal) -> Network:
    """Give a VPC with a subnet."""
    return Network(aws)


@pytest.mark.parametrize(('address', 'code'), [
    ('10.9.2.9', 'InvalidParameterValue'), ('10.9.1.3', 'InvalidParameterValue'),
    ('10.9.1.255', 'InvalidParameterValue'), ('10.9.1.20', 'InvalidIPAddress.InUse')])
def test_an_address_that_the_subnet_cannot_give_is_refused(network: Network, address: str, code: str) -> None:
    assert network.launch(SubnetId=network.subnet, PrivateIpAddress='10.9.1.20')['PrivateIpAddress'] == '10.9.1.20'
    with pytest.raises(ClientError) as refused:
        network.launch(SubnetId=network.subnet, PrivateIpAddress=address)
    assert refused.value.response['Error']['Code'] == code and address in str(refused.value)


def test_the_address_of_a_terminated_instance_is_free_again(network: Network) -> None:
    network.end(network.launch(SubnetId=network.subnet, PrivateIpAddress='10.9.1.20'))
    assert network.launch(SubnetId=network.subnet, PrivateIpAddress='10.9.1.20')['PrivateIpAddress'] == '10.9.1.20'


def test_an_instance_is_in_the_subnet_of_the_interface_that_its_launch_names(network: Network) -> None:
    made = network.ec2.create_network_interface(SubnetId=network.subnet, PrivateIpAddress='10.9.1.30')
    interface = made['NetworkInterface']['NetworkInterfaceId']
    instance = network.launch(NetworkInterfaces=[{'DeviceIndex': 0, 'NetworkInterfaceId': interface}])
    assert (instance['SubnetId'], instance['VpcId']) == (network.subnet, network.vpc)
    assert (instance['PrivateIpAddress'], instance['Placement']['AvailabilityZone']) == ('10.9.1.30', 'us-east-1c')
    network.end(instance)
    assert [each['Status'] for each in network.interfaces] == ['available']


def test_new_interfaces_end_with_their_instance_by_default(network: Network) -> None:
    ends = network.launch(SubnetId=network.subnet)
    stays = network.launch(NetworkInterfaces=[{'DeviceIndex': 0, 'SubnetId': network.subnet,
                                               'DeleteOnTermination': False}])
    kept = stays['NetworkInterfaces'][0]['NetworkInterfaceId']
    network.end(ends)
    network.end(stays)
    (left,) = network.interfaces
    assert (left['NetworkInterfaceId'], left['Status']) == (kept, 'available')


def test_monitoring_and_all_tags_of_a_template_are_kept(network: Network) -> None:
    kinds = ('instance', 'volume', 'network-interface')
    network.ec2.create_launch_template(LaunchTemplateName='kept', LaunchTemplateData={
        'Monitoring': {'Enabled': True}, 'TagSpecifications': [
            {'ResourceType': kind, 'Tags': [{'Key': 'Of', 'Value': kind}, {'Key': 'From', 'Value': 'template'}]}
            for kind in kinds]})
    instance = network.launch(SubnetId=network.subnet, LaunchTemplate={'LaunchTemplateName': 'kept'},
                              TagSpecifications=[{'ResourceType': kind, 'Tags': [{'Key': 'From', 'Value': 'request'}]}
                                                 for kind in kinds])
    described = network.ec2.describe_instances(InstanceIds=[instance['InstanceId']])['Reservations'][0]['Instances'][0]
    assert described['Monitoring']['State'] == 'enabled'
    volume = described['BlockDeviceMappings'][0]['Ebs']['VolumeId']
    for resource, kind in ((instance['InstanceId'], 'instance'), (volume, 'volume'),
                           (described['NetworkInterfaces'][0]['NetworkInterfaceId'], 'network-interface')):
        filters = [{'Name': 'resource-id', 'Values': [resource]}]
        tags = {tag['Key']: tag['Value'] for tag in network.ec2.describe_tags(Filters=filters)['Tags']}
        assert (tags['Of'], tags['From']) == (kind, 'request')


def test_a_subnet_with_an_instance_a_gateway_or_a_balancer_stays(aws: EmbeddedRehearsal, network: Network) -> None:
    def delete() -> None:
        network.ec2.delete_subnet(SubnetId=network.subnet)

    instance = network.launch(SubnetId=network.subnet)
    with pytest.raises(ClientError, match='DependencyViolation'):
        delete()
    network.end(instance)
    gateway = network.ec2.create_nat_gateway(SubnetId=network.subnet, ConnectivityType='private')['NatGateway']
    with pytest.raises(ClientError, match='DependencyViolation'):
        delete()
    network.ec2.delete_nat_gateway(NatGatewayId=gateway['NatGatewayId'])
    balancers = aws.client('elbv2')
    made = balancers.create_load_balancer(Name='balancer', Subnets=[network.subnet], Type='network')
    with pytest.raises(ClientError, match='DependencyViolation'):
        delete()
    balancers.delete_load_balancer(LoadBalancerArn=made['LoadBalancers'][0]['LoadBalancerArn'])
    delete()


def test_a_subnet_with_a_database_stays(aws: EmbeddedRehearsal, network: Network) -> None:
    other = network.ec2.create_subnet(VpcId=network.vpc, CidrBlock='10.9.2.0/24', AvailabilityZone='us-east-1a')
    rds = aws.client('rds')
    rds.create_db_subnet_group(DBSubnetGroupName='group', DBSubnetGroupDescription='of the test',
                               SubnetIds=[network.subnet, other['Subnet']['SubnetId']])
    rds.create_db_instance(DBInstanceIdentifier='db', DBInstanceClass='db.t4g.micro', Engine='postgres',
                           MasterUsername='master', AllocatedStorage=20,
                           MasterUserPassword='a-long-password',  # pragma: allowlist secret
                           DBSubnetGroupName='group')
    with pytest.raises(ClientError, match='DependencyViolation'):
        network.ec2.delete_subnet(SubnetId=network.subnet)


def test_a_vpc_goes_only_when_nothing_is_in_it_and_its_network_with_it(
        aws: EmbeddedRehearsal, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(aws.records, 'forget_network', lambda block: forgotten.append(str(block)))

    def refused() -> None:
        with pytest.raises(ClientError, match='DependencyViolation'):
            network.ec2.delete_vpc(VpcId=network.vpc)

    refused()
    network.ec2.delete_subnet(SubnetId=network.subnet)
    gateway = network.ec2.create_internet_gateway()['InternetGateway']['InternetGatewayId']
    network.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    refused()
    network.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    group = network.ec2.create_security_group(GroupName='g', Description='of the test', VpcId=network.vpc)['GroupId']
    refused()
    network.ec2.delete_security_group(GroupId=group)
    service = 'com.amazonaws.us-east-1.s3'
    endpoint = network.ec2.create_vpc_endpoint(VpcId=network.vpc, VpcEndpointType='Gateway', ServiceName=service)
    refused()
    network.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint['VpcEndpoint']['VpcEndpointId']])
    twin = network.ec2.create_vpc(CidrBlock='10.9.0.0/16')['Vpc']['VpcId']
    network.ec2.delete_vpc(VpcId=network.vpc)
    assert forgotten == []
    network.ec2.delete_vpc(VpcId=twin)
    assert forgotten == ['10.9.0.0/16']
