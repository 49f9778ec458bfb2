// The command line of the MCP Inspector: `inspector --cli`, which makes one
// call, and `mcpdo`, whose daemon holds a connection, so that a person can
// answer a question in a second command.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { call, connectDaemon, inspect } from './inspector.js';
import { startServer } from './server.js';

const eras = [
	{ name: '2025-11-25 in a session', era: 'legacy' },
	{ name: '2026-07-28 without a session', era: 'modern' },
];

let server;
before(async () => {
	server = await startServer();
});
after(() => server?.stop());

for (const { name, era } of eras) {
	describe(`Inspector, ${name}`, () => {
		const ask = (...args) => inspect(server.url, era, ...args);

		test('lists the tools', async () => {
			const { tools } = await ask('--method', 'tools/list', '--strict');
			assert.deepEqual(tools.map((tool) => tool.name).sort(), ['add', 'audit', 'book_table', 'countdown']);
		});

		test('adds', async () => {
			const result = await ask(...call('add', { a: 10, b: 5 }));
			assert.deepEqual(result.content, [{ type: 'text', text: '15' }]);
			assert.deepEqual(result.structuredContent, { result: 15 });
		});

		test('reads a greeting', async () => {
			const { contents } = await ask('--method', 'resources/read', '--uri', 'greeting://World');
			assert.equal(contents[0].text, 'Hello, World!');
		});

		test('gets the prompt', async () => {
			const { messages } = await ask('--method', 'prompts/get', '--prompt-name', 'welcome', '--prompt-args', 'tone=funny');
			assert.match(messages[0].content.text, /funny/);
		});

		test('waits for the countdown', async () => {
			const result = await ask(...call('countdown', { from: 3, delay_ms: 20 }));
			assert.equal(result.content[0].text, 'Counted down from 3.');
		});

		test('waits for the audit', async () => {
			const result = await ask(...call('audit', { steps: 4, delay_ms: 20 })); // in the modern era, a task
			assert.deepEqual(result.structuredContent, { checked: 4, complete: true });
		});
	});

	describe(`Inspector with a daemon, ${name}`, () => {
		let daemon;
		const book = (guests) => daemon.do('tools/call', 'book_table', `guests:=${guests}`);

		before(async () => {
			daemon = await connectDaemon(server.url, era);
		});
		after(() => daemon?.stop());

		test('agrees on the era', () => assert.equal(daemon.connection.protocolEra, era));

		test('books a table that the person confirms', async () => {
			const { elicitationPending: question } = await book(3);
			assert.equal(question.message, 'Book a table for 3?');
			const result = await daemon.do('elicitation/respond', question.elicitationId, 'confirm:=true');
			assert.equal(result.content[0].text, 'Booked a table for 3.');
		});

		test('books none that the person declines', async () => {
			const { elicitationPending: question } = await book(4);
			const result = await daemon.do('elicitation/respond', question.elicitationId, '--decline');
			assert.match(result.content[0].text, /^Not booked/);
		});

		test('answers the question of an audit', async () => {
			const { elicitationPending: question } = await daemon.do('tools/call', 'audit', 'steps:=4', 'delay_ms:=20');
			assert.equal(question.message, '2 of 4 steps are done. Go on?');
			const result = await daemon.do('elicitation/respond', question.elicitationId, 'go_on:=true');
			assert.equal(result.content[0].text, 'Audited 4 steps.');
		});
	});
}
