"""The healthy log receivers of scripts/compare, in a process of their own.

    receiver.py FILE             appends what it gets to FILE; first says "TCP-PORT HTTP-PORT"

TCP closes at the sender's end of file. HTTP answers 200 to every request and keeps the connection. All ends with its
standard input.
"""

import http.server
import os
import socketserver
import sys
import threading


class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            log.write(data)


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        log.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


log = open(sys.argv[1], "ab", buffering=0)
servers = [Server(("127.0.0.1", 0), handler) for handler in (Tcp, Http)]
print(*(server.server_address[1] for server in servers), flush=True)
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
