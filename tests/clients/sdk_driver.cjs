// Calls the official Node SDK on behalf of the Python tests; many calls may be under way at once.
// Usage: node sdk_driver.cjs MODULE_FOLDER. Reads one call a line as JSON, `{id, settings: {key, port, retries}, operation,
// arguments}`, and answers each with one line, `{id, value}` or `{id, error}`; ends when its standard input does.
"use strict";
const path = require("path");
const readline = require("readline");
const Stripe = require(path.join(process.argv[2], "stripe"));

const TIMEOUT_MS = 20000;
const clients = new Map();

// One client per settings, so that calls share their connections as those of one program do.
function clientFor(settings) {
    const name = JSON.stringify(settings);
    if (!clients.has(name)) {
        const { key, port, retries } = settings;
        const options = { host: "127.0.0.1", port, protocol: "http", maxNetworkRetries: retries, timeout: TIMEOUT_MS };
        clients.set(name, new Stripe(key, { ...options, telemetry: false }));
    }
    return clients.get(name);
}

function described(error) {
    const { statusCode, code, type, message, headers } = error;
    return { status: statusCode ?? null, code: code ?? null, kind: type ?? error.name, message, headers: headers ?? {} };
}

async function run(call) {
    const names = call.operation.split(".");
    const method = names.pop();
    const resource = names.reduce((found, name) => found[name], clientFor(call.settings));
    return resource[method](...call.arguments);
}

function answer(value) {
    process.stdout.write(`${JSON.stringify(value)}\n`);
}

readline
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
        const call = JSON.parse(line);
        run(call).then(
            (value) => answer({ id: call.id, value: { id: value.id ?? null } }),
            (error) => answer({ id: call.id, error: described(error) }),
        );
    })
    .on("close", () => process.exit(0));
