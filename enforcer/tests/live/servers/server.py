"""Python's http.server, a thread per connection. Tells in each answer how many requests it handled and how many bytes its
connections gave it."""
import http.server
import socket
import threading

lock = threading.Lock()
counts = {"requests": 0, "bytes": 0}


def count(name, n):
    with lock:
        counts[name] += n


class Socket(socket.socket):
    def recv_into(self, *args):
        n = super().recv_into(*args)
        count("bytes", n)
        return n


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def get_request(self):
        accepted, address = super().get_request()
        return Socket(fileno=accepted.detach()), address


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        count("requests", 1)
        body = b"requests %(requests)d bytes %(bytes)d\n" % {k.encode(): v for k, v in counts.items()}
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = Server(("127.0.0.1", 0), Handler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
