"""Whether containers of one network reach each other, which a firewall of the machine can prevent."""

from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.engine import unique

# Time for a listener to start, and for a lost packet to be repeated. A packet that a firewall drops never arrives.
SECONDS = 30
LISTEN = """
import socket
server = socket.create_server(('', 8000))
while True:
    server.accept()[0].close()
"""
CONNECT = f"""
import socket, sys, time
until = time.monotonic() + {SECONDS}
while True:
    try:
        socket.create_connection((sys.argv[1], 8000), 10).close()
        break
    except OSError as error:
        if time.monotonic() > until:
            sys.exit(str(error))
        time.sleep(0.2)
"""


def obstacle(engine: Engine, image: str) -> str | None:
    """Return in one line why containers of one network do not reach each other and what to do, or None if they do.

    The image needs Python.
    """
    network, listener = unique('network'), unique('listener')
    engine.docker('network', 'create', network)
    try:
        engine.docker('run', '--detach', f'--name={listener}', f'--network={network}', image, 'python', '-c', LISTEN)
        engine.docker('run', '--rm', f'--network={network}', image, 'python', '-c', CONNECT, listener)
    except CommandFailed as error:
        reason = str(error).strip().splitlines()[-1]
        return (f'containers of one network do not reach each other ({reason}): a firewall of this machine drops the '
                'packets between them. `iptables -S FORWARD` shows a policy DROP or rules that another Docker '
                'engine left; start that engine again, or accept the packets: iptables --policy FORWARD ACCEPT')
    finally:
        engine.docker('rm', '--force', listener)
        engine.docker('network', 'rm', network)
    return None
