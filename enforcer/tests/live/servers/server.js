// Node's http server. Tells in each answer how many requests it handled and how many bytes its sockets gave it.
const http = require('http');

const sockets = [];
let requests = 0;
const server = http.createServer((request, response) => {
  requests += 1;
  const bytes = sockets.reduce((sum, socket) => sum + socket.bytesRead, 0);
  const body = `requests ${requests} bytes ${bytes}\n`;
  response.writeHead(200, { 'Content-Length': body.length });
  response.end(body);
});
server.on('connection', (socket) => sockets.push(socket));
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
