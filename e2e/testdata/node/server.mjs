// An MCP server in another language, with nothing but Node's own modules, to show that the kit
// does not care. It answers in JSON, and in an event stream to who asks for progress.
import { createServer } from "node:http";

const revisions = ["2025-11-25", "2025-06-18"];
const tools = [
  {
    name: "add",
    description: "Add two numbers.",
    inputSchema: {
      type: "object",
      properties: { a: { type: "number" }, b: { type: "number" } },
      required: ["a", "b"],
    },
  },
];

const methods = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion: revisions.includes(protocolVersion) ? protocolVersion : revisions[0],
    capabilities: { tools: {} },
    serverInfo: { name: "node-adder", version: "1.0.0" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools }),
  "tools/call": ({ name, arguments: { a, b } = {} }) => {
    if (name !== "add") throw new Error(`no tool ${name}`);
    if (typeof a !== "number" || typeof b !== "number") {
      return { isError: true, content: [{ type: "text", text: "a and b must be numbers" }] };
    }
    return { content: [{ type: "text", text: String(a + b) }] };
  },
};

function answer({ id, method, params = {} }) {
  if (!Object.hasOwn(methods, method)) {
    return { jsonrpc: "2.0", id, error: { code: -32601, message: `no method ${method}` } };
  }
  try {
    return { jsonrpc: "2.0", id, result: methods[method](params) };
  } catch (err) {
    return { jsonrpc: "2.0", id, error: { code: -32602, message: err.message } };
  }
}

const server = createServer(async (req, res) => {
  if (req.url !== "/mcp") return res.writeHead(404).end();
  if (req.method !== "POST") return res.writeHead(405, { Allow: "POST" }).end();
  let body = "";
  for await (const part of req) body += part;
  const message = JSON.parse(body);
  if (message.id === undefined) return res.writeHead(202).end();
  const progressToken = message.params?._meta?.progressToken;
  if (progressToken === undefined) {
    return res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer(message)));
  }
  res.writeHead(200, { "Content-Type": "text/event-stream" });
  const progress = { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken, progress: 1, total: 1 } };
  for (const m of [progress, answer(message)]) res.write(`data: ${JSON.stringify(m)}\n\n`);
  res.end();
});

const port = Number(process.argv[2]);
server.listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)) && server.closeAllConnections());
