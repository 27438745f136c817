// A web server that says goodbye when it is told to stop.
const http = require('http');

const server = http.createServer((request, response) => {
  console.log(`${request.method} ${request.url}`);
  response.end('hello\n');
});
server.listen(process.env.PORT || 8080, () => console.log('listening'));

process.on('SIGTERM', () => {
  console.log('stopping: closing the server');
  server.close(() => {
    console.log('goodbye');
    process.exit(0);
  });
});
