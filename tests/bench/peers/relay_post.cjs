// One POST over kept connections, for the peers that run on Node.
const http = require("http");
const agent = new http.Agent({ keepAlive: true, maxSockets: 250 });
exports.post = (url, document) =>
  new Promise((done, failed) => {
    const data = JSON.stringify(document);
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(data) };
    const request = http.request(`${url}/api/cron/fire`, { agent, method: "POST", headers }, (answer) => {
      answer.resume();
      answer.on("end", done);
    });
    request.on("error", failed);
    request.end(data);
  });
