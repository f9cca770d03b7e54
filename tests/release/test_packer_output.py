"""The parser of Packer's and Ansible's output, with lines of Packer 1.6.6 and ansible-core 2.19."""

from release.packer_output import PackerOutput

LAUNCH = """
==> base.amazon-ebs.base: Prevalidating any provided VPC information
    base.amazon-ebs.base: Found Image ID: ami-1
==> base.amazon-ebs.base: Creating temporary keypair: packer-run
==> base.amazon-ebs.base: Creating temporary security group for this instance: packer_6b05441f
    base.amazon-ebs.base: Adding tag: "Project": "visitors"
==> base.amazon-ebs.base: Using ssh communicator to connect: 10.0.0.5
==> base.amazon-ebs.base: Waiting for SSH to become available...
==> base.amazon-ebs.base: Connected to SSH!
==> base.amazon-ebs.base: Provisioning with Ansible...
    base.amazon-ebs.base: PLAY [Base image] *******
"""
IGNORED = """
    base.amazon-ebs.base: TASK [docker : It may fail] *****
    base.amazon-ebs.base: fatal: [default]: FAILED! => {"changed": false, "msg": "no matter"}
    base.amazon-ebs.base: ...ignoring
"""
FAILED = """
    base.amazon-ebs.base: TASK [docker : The engine is installed] *****
    base.amazon-ebs.base: fatal: [default]: FAILED! => {"msg": "non-zero return code", "rc": 3, "stderr": "a\\nE: no"}
    base.amazon-ebs.base: PLAY RECAP *****
==> base.amazon-ebs.base: Provisioning step had errors: Running the cleanup provisioner, if present...
==> base.amazon-ebs.base: Terminating the source AWS instance...
Build 'base.amazon-ebs.base' errored after 5 seconds 224 milliseconds: Error executing Ansible: exit status 2

==> Wait completed after 5 seconds 224 milliseconds
"""


def parsed(*texts: str) -> PackerOutput:
    """Return the output after these lines."""
    output = PackerOutput()
    for line in ''.join(texts).splitlines():
        output.read(line)
    return output


def test_a_failed_task_is_reported_with_its_message_and_the_end_of_its_stderr() -> None:
    assert parsed(LAUNCH, IGNORED, FAILED).failure == (
        'the task "docker : The engine is installed" failed: non-zero return code: a\nE: no')


def test_a_failure_that_ansible_ignores_does_not_count() -> None:
    assert 'It may fail' not in parsed(LAUNCH, IGNORED).failure


def test_an_item_of_a_loop_is_named() -> None:
    line = '    app.amazon-ebs.app: failed: [default] (item=b) => {"item": "b", "msg": "wrong"}\n'
    failure = parsed('    app.amazon-ebs.app: TASK [units : Units are enabled] ***\n', line).failure
    assert failure == 'the task "units : Units are enabled (item=b)" failed: wrong'


def test_an_unreachable_instance_is_reported() -> None:
    line = '    app.amazon-ebs.app: fatal: [default]: UNREACHABLE! => {"changed": false, "msg": "timed out"}\n'
    assert parsed('    app.amazon-ebs.app: TASK [Wait] ***\n', line).failure == 'the task "Wait" failed: timed out'


def test_a_message_that_is_not_json_is_reported_unchanged() -> None:
    line = '    app.amazon-ebs.app: fatal: [default]: FAILED! => something else\n'
    assert parsed('    app.amazon-ebs.app: TASK [Wait] ***\n', line).failure.endswith('failed: something else')


def test_without_a_failed_task_the_error_of_packer_is_the_reason() -> None:
    output = parsed(LAUNCH, "Build 'base.amazon-ebs.base' errored after 2 seconds: Error waiting for AMI: NotReady\n"
                            'original error: exceeded wait attempts\n\n==> Wait completed after 2 seconds\n'
                            '--> base.amazon-ebs.base: again\n')
    assert output.failure == 'Error waiting for AMI: NotReady\noriginal error: exceeded wait attempts'


def test_a_refused_template_is_reported() -> None:
    output = parsed('Error: Invalid expression\n\n  on packer/a.pkr.hcl line 1:\n  (source code not available)\n')
    assert output.failure == 'Invalid expression\n  on packer/a.pkr.hcl line 1:\n  (source code not available)'


def test_the_parts_of_a_bake_follow_each_other() -> None:
    output, parts = PackerOutput(), ['launch']
    ends = '\n'.join(f'==> base.amazon-ebs.base: {words}' for words in (
        'Stopping the source instance...', 'Creating AMI visitors-base from instance i-1',
        'Terminating the source AWS instance...'))
    for line in (LAUNCH + IGNORED + ends).splitlines():
        output.read(line)
        if output.part != parts[-1]:
            parts.append(output.part)
    assert parts == ['launch', 'boot', 'provision', 'stop', 'AMI', 'clean up']


def test_the_step_is_a_task_or_a_line_of_packer_without_noise() -> None:
    assert parsed(LAUNCH).step == 'Provisioning with Ansible...'
    assert parsed(LAUNCH, IGNORED).step == 'docker : It may fail'


def test_the_untagged_resources_of_packer_are_remembered_by_name() -> None:
    assert parsed(LAUNCH).untagged == ['packer-run', 'packer_6b05441f']


def test_packer_without_output_is_reported_as_giving_no_reason() -> None:
    assert parsed('').failure == 'Packer gives no reason'
