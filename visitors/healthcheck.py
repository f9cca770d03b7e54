"""python -m visitors.healthcheck HOST PORT: check that the server there answers.

The container's own health check, because the image has no curl; it imports little, because it runs every few seconds.
"""

from http.client import HTTPConnection, HTTPException
import sys

SECONDS = 3
EVERY_ADDRESS = {'0.0.0.0': '127.0.0.1', '::': '::1'}  # an address to listen on, and the one to connect to


def failure(host: str, port: int) -> str | None:
    """Return the failure of the server, or None if /livez answers 200 in time."""
    host = host.strip('[]')  # an IPv6 address may have the brackets of a URL
    connection = HTTPConnection(EVERY_ADDRESS.get(host, host), port, timeout=SECONDS)
    try:
        connection.request('GET', '/livez', headers={'User-Agent': 'visitors-healthcheck'})
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f'/livez does not answer: {error!r}'
    finally:
        connection.close()
    return None if status == 200 else f'/livez answers {status}'


if __name__ == '__main__':
    sys.exit(failure(sys.argv[1], int(sys.argv[2])))
