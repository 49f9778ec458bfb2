// The clients of the TypeScript SDK, of both its major lines, before a server with every trait that has made clients
// refuse one. They validate what they get: one bad tool, and the whole list is refused.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from '@modelcontextprotocol/client';
import { Client as Client1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as Transport1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Client as Client125 } from 'sdk-1.25/client/index.js';
import { StreamableHTTPClientTransport as Transport125 } from 'sdk-1.25/client/streamableHttp.js';

import { startServer } from './server.js';

const large = '9007199254740993'; // JavaScript has no such number

// A client of the first line asks for the newest revision that it knows, and takes an older one.
function asking(version) {
	return (body) => {
		const message = JSON.parse(body);
		if (message.method !== 'initialize') return body;
		message.params.protocolVersion = version;
		return JSON.stringify(message);
	};
}

const info = { name: 'sluice-clients', version: '1.0.0' };
const eras = [];
for (const [line, Client, Transport] of [
	['1.25', Client125, Transport125],
	['1.x', Client1, Transport1],
]) {
	for (const version of ['2025-03-26', '2025-06-18', '2025-11-25']) {
		eras.push({ line, version, Transport, edit: asking(version), client: () => new Client(info) });
	}
}
for (const version of ['2025-06-18', '2025-11-25']) {
	eras.push({
		line: '2.x', version, Transport: Transport2, edit: asking(version),
		client: () => new Client2(info, { versionNegotiation: { mode: 'legacy' } }),
	});
}
eras.push({
	line: '2.x', version: '2026-07-28', Transport: Transport2, edit: (body) => body,
	client: () => new Client2(info, { versionNegotiation: { mode: { pin: '2026-07-28' } } }),
});

let server;
before(async () => {
	server = await startServer('ODD_SERVER');
});
after(() => server?.stop());

for (const era of eras) {
	describe(`TypeScript client ${era.line}, ${era.version}`, () => {
		const modern = era.version >= '2026';
		const structured = era.version >= '2025-06-18';
		let client;
		let tools;
		let body; // of the last response

		before(async () => {
			client = era.client();
			const transport = new era.Transport(new URL(server.url), {
				async fetch(url, init) {
					if (init?.body) init.body = era.edit(init.body).replaceAll(`"${large}"`, large);
					const response = await fetch(url, init);
					if (init?.method === 'POST') body = response.clone().text();
					return response;
				},
			});
			await client.connect(transport);
			// From here on it checks results by their output schemas.
			({ tools } = await client.listTools());
		});
		after(() => client?.close());

		const call = (name, args = {}) => client.callTool({ name, arguments: args });
		const find = (name) => tools.find((tool) => tool.name === name);

		test('lists everything', async () => {
			assert.equal(tools.length, 30);
			assert.equal((await client.listResources()).resources.length, 4);
			assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 1);
			assert.equal((await client.listPrompts()).prompts.length, 3);
		});

		for (const way of ['sluice', 'sdk']) {
			// Values that are no objects are for those revisions that know them; the text has them always.
			for (const [name, value] of Object.entries({ list: ['a', 'b'], text: 'words', number: 1.5, truth: true })) {
				test(`${way}: ${name}`, async () => {
					const tool = find(`${way}_${name}`);
					const result = await call(tool.name);
					assert.notEqual(result.isError, true);
					assert.equal(tool.outputSchema !== undefined, modern);
					assert.deepEqual(result.structuredContent, modern ? value : undefined);
					assert.deepEqual(JSON.parse(result.content[0].text), value);
				});
			}

			test(`${way}: nil slice`, async () => {
				const result = await call(`${way}_no_list`);
				assert.notEqual(result.isError, true);
				assert.equal('structuredContent' in result, modern);
			});

			for (const [name, value] of Object.entries({ map: { a: 1 }, no_map: {} })) {
				test(`${way}: ${name}`, async () => {
					const result = await call(`${way}_${name}`);
					assert.notEqual(result.isError, true);
					assert.deepEqual(JSON.parse(result.content[0].text), value);
					if (structured) assert.deepEqual(result.structuredContent, value);
				});
			}
		}

		// What follows, a tool of the SDK's own AddTool does inside the SDK.
		test('nil slices and maps in a struct', async () => {
			const result = await call('sluice_nils');
			assert.notEqual(result.isError, true, result.content[0]?.text);
			const { list, map, lists } = JSON.parse(result.content[0].text);
			assert.deepEqual([list ?? [], map ?? {}, lists.x ?? []], [[], {}, []]);
		});

		test('any JSON, and bytes', async () => {
			const value = { any: [1, null], raw: { a: [1, 'b'] }, bytes: 'Ynl0ZXM=' };
			const tool = find('sluice_free');
			const result = await call(tool.name);
			assert.notEqual(result.isError, true, result.content[0]?.text);
			assert.deepEqual(JSON.parse(result.content[0].text), value);
			if (structured) assert.deepEqual(result.structuredContent, value);
			const { bytes } = find('sluice_echo_free').inputSchema.properties;
			assert.ok([bytes.type].flat().includes('string'), JSON.stringify(bytes));
		});

		test('any JSON, and bytes, there and back', async () => {
			const value = { any: 'x', raw: [{ deep: [1, 2] }], bytes: 'AP8=' };
			const result = await call('sluice_echo_free', value);
			assert.notEqual(result.isError, true, result.content[0]?.text);
			assert.deepEqual(JSON.parse(result.content[0].text), value);
		});

		test('large integers', async () => {
			const result = await call('sluice_echo_large', { n: large, list: [large], map: { a: large } });
			assert.notEqual(result.isError, true, result.content[0]?.text);
			assert.equal(result.content[0].text.split(large).length, 4, result.content[0].text);
			// Not what is closest to it in JavaScript, in the structured content either, which the client has parsed.
			assert.doesNotMatch(await body, /9007199254740992/);
			if (structured) assert.equal((await body).split(large).length, 7, await body);
		});

		test('large integers without a type', async () => {
			const result = await call('sluice_untyped', { a: { b: [large] } });
			assert.equal(result.content[0].text, `{"a":{"b":[${large}]}}`);
		});

		test('error with its own words', async () => {
			const result = await call('sluice_fails');
			assert.equal(result.isError, true);
			assert.deepEqual(result.content, [{ type: 'text', text: 'its own words' }]);
			assert.equal(result.structuredContent, undefined);
		});

		test('raw schemas and a long name', async () => {
			const tool = tools.find((tool) => tool.name.startsWith('Raw.'));
			assert.equal(tool.inputSchema.type, 'object');
			if (structured) assert.equal(tool.title, 'Raw "tool" <é>');
			assert.equal(tool.annotations.destructiveHint, false);
			const result = await call(tool.name, { x: [1], y: ['a'] });
			if (structured) assert.deepEqual(result.structuredContent, { got: { x: [1], y: ['a'] } });
		});

		test('raw array', async () => {
			const result = await call('raw_array');
			assert.equal(find('raw_array').outputSchema !== undefined, modern);
			assert.deepEqual(result.structuredContent, modern ? [1, 2] : undefined);
			assert.equal(result.content[0].text, '[1,2]');
		});

		test('content that is empty', async () => {
			const { content } = await call('raw_content');
			assert.equal(content[0].text, '');
			assert.equal(content[1].data, '');
			assert.equal(content[2].data, '');
			assert.deepEqual(content[3].resource, { uri: 'odd://empty', text: '' });
			assert.deepEqual(content[4].resource, { uri: 'odd://blob', blob: '' });
			// Links are not known before 2025-06-18.
			if (structured) assert.equal(content[5].type, 'resource_link');
			assert.deepEqual((await call('raw_nothing')).content, []);
		});

		test('resources that are empty', async () => {
			const read = async (uri) => (await client.readResource({ uri })).contents;
			assert.deepEqual(await read('odd://empty'), [{ uri: 'odd://empty', text: '' }]);
			assert.deepEqual(await read('odd://blob'), [{ uri: 'odd://blob', mimeType: 'application/octet-stream', blob: '' }]);
			assert.equal((await read('odd://bytes'))[0].blob, 'AP8=');
			assert.deepEqual(await read('odd://nothing'), []);
			assert.equal((await read('items://caf%C3%A9/1'))[0].text, 'found');
		});

		test('prompts', async () => {
			const what = await client.getPrompt({ name: 'needs', arguments: { what: 'this' } });
			assert.equal(what.messages[0].content.text, 'this');
			await assert.rejects(client.getPrompt({ name: 'needs' }), (err) => err.code === -32602);
			assert.deepEqual((await client.getPrompt({ name: 'silent' })).messages, []);
			const { messages } = await client.getPrompt({ name: 'embeds' });
			assert.deepEqual(messages[0].content.resource, { uri: 'odd://empty', text: '' });
			assert.equal(messages[1].content.text, '');
		});

		test('completion without values', async () => {
			const { completion } = await client.complete({
				ref: { type: 'ref/prompt', name: 'needs' },
				argument: { name: 'what', value: '' },
			});
			assert.deepEqual(completion.values, []);
		});
	});
}
