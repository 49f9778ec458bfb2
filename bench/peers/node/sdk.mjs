// Serves the bench's tools with the TypeScript SDK. Usage: node sdk.mjs PORT stateless|sessions
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { NodeStreamableHTTPServerTransport, localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { z } from 'zod';

const [port, mode] = process.argv.slice(2);
const addIn = z.object({ a: z.int(), b: z.int() });
const addOut = z.object({ sum: z.int() });
const countIn = z.object({ n: z.int() });
const countOut = z.object({ n: z.int() });
const markIn = z.object({});
const markOut = z.object({ done: z.boolean() });

function answer(output) {
	return { content: [{ type: 'text', text: JSON.stringify(output) }], structuredContent: output };
}

function progress(ctx, params) {
	const progressToken = ctx.mcpReq._meta?.progressToken;
	return ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, ...params } });
}

// The time in nanoseconds, to the microsecond, by the clock that the client reads, too.
function now() {
	return String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n);
}

function newServer() {
	const s = new McpServer({ name: 'bench', version: '1' });
	s.registerTool('add', { inputSchema: addIn, outputSchema: addOut }, async ({ a, b }) => answer({ sum: a + b }));
	s.registerTool('count', { inputSchema: countIn, outputSchema: countOut }, async ({ n }, ctx) => {
		for (let i = 1; i <= n; i++) await progress(ctx, { progress: i, total: n });
		return answer({ n });
	});
	s.registerTool('mark', { inputSchema: markIn, outputSchema: markOut }, async (_, ctx) => {
		await progress(ctx, { progress: 1, message: now() });
		await new Promise((done) => setTimeout(done, 20));
		return answer({ done: true });
	});
	return s;
}

const transports = new Map();

// What the SDK's guide shows for servers with sessions.
async function withSessions(req, res) {
	let transport = transports.get(req.headers['mcp-session-id']);
	if (!transport) {
		transport = new NodeStreamableHTTPServerTransport({
			sessionIdGenerator: () => randomUUID(),
			onsessioninitialized: (id) => transports.set(id, transport),
			onsessionclosed: (id) => transports.delete(id),
		});
		await newServer().connect(transport);
	}
	await transport.handleRequest(req, res);
}

const serve = mode === 'sessions' ? withSessions : toNodeHandler(createMcpHandler(newServer));
const validateHost = localhostHostValidation();
const validateOrigin = localhostOriginValidation();
const server = createServer((req, res) => {
	if (validateHost(req, res) && validateOrigin(req, res)) serve(req, res);
});
server.keepAliveTimeout = 60_000;
server.listen(Number(port), '127.0.0.1');
