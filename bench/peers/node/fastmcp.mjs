// Serves the bench's tools with fastmcp. Usage: node fastmcp.mjs PORT
import { FastMCP } from 'fastmcp';
import { z } from 'zod';

const server = new FastMCP({ name: 'bench', version: '1.0.0', ping: { enabled: false }, logger: silent() });

function silent() {
	const nothing = () => {};
	return { debug: nothing, error: nothing, info: nothing, log: nothing, warn: nothing };
}

server.addTool({
	name: 'add',
	parameters: z.object({ a: z.int(), b: z.int() }),
	outputSchema: z.object({ sum: z.int() }),
	execute: async ({ a, b }) => ({
		content: [{ type: 'text', text: JSON.stringify({ sum: a + b }) }],
		structuredContent: { sum: a + b },
	}),
});

server.addTool({
	name: 'count',
	parameters: z.object({ n: z.int() }),
	outputSchema: z.object({ n: z.int() }),
	execute: async ({ n }, { reportProgress }) => {
		for (let i = 1; i <= n; i++) await reportProgress({ progress: i, total: n });
		return { content: [{ type: 'text', text: JSON.stringify({ n }) }], structuredContent: { n } };
	},
});

await server.start({ transportType: 'httpStream', httpStream: { port: Number(process.argv[2]), host: '127.0.0.1' } });
