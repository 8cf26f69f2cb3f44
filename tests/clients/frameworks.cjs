// Routes requests with Express, without sockets. Usage: node frameworks.cjs MODULE_FOLDER
// Standard input is one JSON value: {"routes": [[method, template, name]…], "requests": [[method, url]…]}; standard output is a
// list with the name of the route that each request reaches, or null.
"use strict";
const path = require("path");
const express = require(path.join(process.argv[2], "express"));

let text = "";
process.stdin.on("data", (piece) => (text += piece));
process.stdin.on("end", () => {
    const { routes, requests } = JSON.parse(text);
    const app = express();
    let reached = null;
    for (const [method, template, name] of routes) {
        app[method.toLowerCase()](template.replace(/\{(\w+)\}/g, ":$1"), () => (reached = name));
    }
    const answers = requests.map(([method, url]) => {
        reached = null;
        const request = Object.create(app.request, { method: { value: method, writable: true } });
        Object.assign(request, { url, headers: {}, app });
        app.router.handle(request, { setHeader() {}, end() {} }, () => {});
        return reached;
    });
    process.stdout.write(JSON.stringify(answers));
});
