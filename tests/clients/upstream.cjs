// Serves stripe-stateful-mock on loopback and on a port the system picks. Its own command listens on every interface.
// Usage: node upstream.cjs MODULE_FOLDER; prints `listening PORT` once it accepts, and ends when its standard input does.
"use strict";
const path = require("path");
const { createExpressApp } = require(path.join(process.argv[2], "stripe-stateful-mock"));

const server = createExpressApp().listen(0, "127.0.0.1", () => {
    // Idle connections of a gateway's pool must outlive a test, or a close would race with the next request.
    server.keepAliveTimeout = 120000;
    process.stdout.write(`listening ${server.address().port}\n`);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
