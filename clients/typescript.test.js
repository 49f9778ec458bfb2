// The client of the TypeScript SDK.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { startServer } from './server.js';

const eras = [
	{ name: '2025-11-25 in a session', mode: 'legacy', version: '2025-11-25', session: true },
	{ name: '2026-07-28 without a session', mode: { pin: '2026-07-28' }, version: '2026-07-28', session: false },
	{ name: 'the newest that it finds', mode: 'auto', version: '2026-07-28', session: false },
];

let server;
before(async () => {
	server = await startServer();
});
after(() => server?.stop());

for (const era of eras) {
	describe(`TypeScript client, ${era.name}`, () => {
		const questions = [];
		let answer;
		let client;
		let transport;

		before(async () => {
			client = new Client(
				{ name: 'sluice-clients', version: '1.0.0' },
				{ capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: era.mode } },
			);
			client.setRequestHandler('elicitation/create', (request) => {
				questions.push(request.params.message);
				return answer;
			});
			transport = new StreamableHTTPClientTransport(new URL(server.url));
			await client.connect(transport);
		});
		after(() => client?.close());

		test('agrees on the revision', () => {
			assert.equal(client.getNegotiatedProtocolVersion(), era.version);
			assert.equal(transport.sessionId !== undefined, era.session);
			assert.equal(client.getServerVersion()?.name, 'sluice-demo');
		});

		test('lists the tools', async () => {
			const { tools } = await client.listTools();
			assert.deepEqual(tools.map((tool) => tool.name).sort(), ['add', 'audit', 'book_table', 'countdown']);
		});

		test('adds', async () => {
			const result = await client.callTool({ name: 'add', arguments: { a: 10, b: 5 } });
			assert.deepEqual(result.content, [{ type: 'text', text: '15' }]);
			assert.deepEqual(result.structuredContent, { result: 15 });
		});

		test('is told which argument is wrong', async () => {
			const result = await client.callTool({ name: 'add', arguments: { a: 10, b: 'five' } });
			assert.equal(result.isError, true);
			assert.match(result.content[0].text, /\bb\b/);
		});

		test('reads a greeting', async () => {
			const { contents } = await client.readResource({ uri: 'greeting://World' });
			assert.equal(contents[0].text, 'Hello, World!');
		});

		test('completes an argument of the prompt', async () => {
			const { completion } = await client.complete({
				ref: { type: 'ref/prompt', name: 'welcome' },
				argument: { name: 'tone', value: 'f' },
			});
			assert.deepEqual(completion.values, ['formal', 'friendly', 'funny']);
		});

		test('follows the countdown', async () => {
			const steps = [];
			const result = await client.callTool(
				{ name: 'countdown', arguments: { from: 3, delay_ms: 20 } },
				{ onprogress: (step) => steps.push(`${step.progress}/${step.total}`) },
			);
			assert.equal(result.content[0].text, 'Counted down from 3.');
			assert.deepEqual(steps, ['1/3', '2/3', '3/3']);
		});

		test('books a table that the person confirms', async () => {
			questions.length = 0;
			answer = { action: 'accept', content: { confirm: true } };
			const result = await client.callTool({ name: 'book_table', arguments: { guests: 3 } });
			assert.equal(result.content[0].text, 'Booked a table for 3.');
			assert.deepEqual(questions, ['Book a table for 3?']);
		});

		test('books none that the person declines', async () => {
			answer = { action: 'decline' };
			const result = await client.callTool({ name: 'book_table', arguments: { guests: 3 } });
			assert.match(result.content[0].text, /^Not booked/);
		});

		test('makes ten calls at once', async () => {
			const calls = Array.from({ length: 10 }, (_, i) => client.callTool({ name: 'add', arguments: { a: i, b: 100 } }));
			const sums = (await Promise.all(calls)).map((result) => result.structuredContent.result);
			assert.deepEqual(sums, [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]);
		});

		if (era.session) {
			test('ends its session', async () => {
				const id = transport.sessionId;
				await transport.terminateSession();
				const response = await fetch(server.url, {
					method: 'POST',
					headers: {
						'content-type': 'application/json',
						accept: 'application/json, text/event-stream',
						'mcp-session-id': id,
						'mcp-protocol-version': era.version,
					},
					body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
				});
				assert.equal(response.status, 404);
			});
		}
	});
}
