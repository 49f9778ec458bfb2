// The command line of the MCP Inspector: `inspector --cli`, which makes one
// call, and `mcpdo`, whose daemon holds a connection, so that a person can
// answer a question in a second command.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';

import { startServer } from './server.js';

const eras = [
	{ name: '2025-11-25 in a session', era: 'legacy' },
	{ name: '2026-07-28 without a session', era: 'modern' },
];

// run runs one of the Inspector's commands and returns the JSON that it prints.
async function run(command, args, env = {}) {
	const bin = join(import.meta.dirname, 'node_modules', '.bin', command);
	const { stdout } = await promisify(execFile)(process.execPath, [bin, ...args], {
		// In files, for the Inspector warns about a machine without a keychain.
		env: { ...process.env, MCP_INSPECTOR_SECRET_STORE: 'file', ...env },
		timeout: 30_000,
	});
	return JSON.parse(stdout);
}

let server;
before(async () => {
	server = await startServer();
});
after(() => server?.stop());

for (const { name, era } of eras) {
	describe(`Inspector, ${name}`, () => {
		const inspect = async (...args) => {
			const fixed = ['--cli', '--transport', 'http', '--server-url', server.url, '--protocol-era', era, '--format', 'json', '--quiet'];
			return (await run('inspector', [...fixed, ...args])).result;
		};
		const call = (tool, args) => inspect('--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args));

		test('lists the tools', async () => {
			const { tools } = await inspect('--method', 'tools/list', '--strict');
			assert.deepEqual(tools.map((tool) => tool.name).sort(), ['add', 'audit', 'book_table', 'countdown']);
		});

		test('adds', async () => {
			const result = await call('add', { a: 10, b: 5 });
			assert.deepEqual(result.content, [{ type: 'text', text: '15' }]);
			assert.deepEqual(result.structuredContent, { result: 15 });
		});

		test('reads a greeting', async () => {
			const { contents } = await inspect('--method', 'resources/read', '--uri', 'greeting://World');
			assert.equal(contents[0].text, 'Hello, World!');
		});

		test('gets the prompt', async () => {
			const { messages } = await inspect('--method', 'prompts/get', '--prompt-name', 'welcome', '--prompt-args', 'tone=funny');
			assert.match(messages[0].content.text, /funny/);
		});

		test('waits for the countdown', async () => {
			const result = await call('countdown', { from: 3, delay_ms: 20 });
			assert.equal(result.content[0].text, 'Counted down from 3.');
		});

		test('waits for the audit', async () => {
			const result = await call('audit', { steps: 4, delay_ms: 20 }); // in the modern era, a task
			assert.deepEqual(result.structuredContent, { checked: 4, complete: true });
		});
	});

	describe(`Inspector with a daemon, ${name}`, () => {
		let daemon;
		const mcpdo = (...args) => run('mcpdo', ['--format', 'json', ...args], { MCP_INSPECTOR_DAEMON_DIR: daemon });
		const onServer = (...args) => mcpdo('--connection', server.url, ...args);
		const book = (guests) => onServer('tools/call', 'book_table', `guests:=${guests}`);

		before(async () => {
			// A short path, for it holds a Unix socket.
			daemon = await mkdtemp(join(tmpdir(), 'mcpdo-'));
			const connection = await mcpdo('connect', '--transport', 'http', '--era', era, server.url);
			assert.equal(connection.protocolEra, era);
		});
		after(async () => {
			await mcpdo('daemon', 'stop');
			await rm(daemon, { recursive: true, force: true });
		});

		test('books a table that the person confirms', async () => {
			const { elicitationPending: question } = await book(3);
			assert.equal(question.message, 'Book a table for 3?');
			const result = await onServer('elicitation/respond', question.elicitationId, 'confirm:=true');
			assert.equal(result.content[0].text, 'Booked a table for 3.');
		});

		test('books none that the person declines', async () => {
			const { elicitationPending: question } = await book(4);
			const result = await onServer('elicitation/respond', question.elicitationId, '--decline');
			assert.match(result.content[0].text, /^Not booked/);
		});

		test('answers the question of an audit', async () => {
			const { elicitationPending: question } = await onServer('tools/call', 'audit', 'steps:=4', 'delay_ms:=20');
			assert.equal(question.message, '2 of 4 steps are done. Go on?');
			const result = await onServer('elicitation/respond', question.elicitationId, 'go_on:=true');
			assert.equal(result.content[0].text, 'Audited 4 steps.');
		});
	});
}
