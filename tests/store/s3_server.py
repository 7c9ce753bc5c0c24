"""A process that speaks the S3 API on loopback: moto, one request at a time.

Moto looks at the condition of a write and then writes, in two steps; a server of one thread makes them one.
"""

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    print(server.port, flush=True)
    server.serve_forever()
