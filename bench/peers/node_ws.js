// The hub as users of `ws` write it.   NODE_PATH=…/node_modules node node_ws.js PORT
const { WebSocketServer, WebSocket } = require('ws');

let lastId = 0;
const server = new WebSocketServer({ host: '127.0.0.1', port: +process.argv[2], perMessageDeflate: false });

server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (text) => {
    const { type, data } = JSON.parse(text);
    if (type !== 'room_message') return;
    const out = JSON.stringify({
      type: 'room_message',
      data: {
        id: ++lastId, room: 'general', user_id: 1, username: 'alice',
        content: data.content, message_type: 'text', created_at: '2023-11-20T10:30:00Z',
      },
      timestamp: '2023-11-20T10:30:00Z',
    });
    for (const other of server.clients) if (other.readyState === WebSocket.OPEN) other.send(out);
  });
});
