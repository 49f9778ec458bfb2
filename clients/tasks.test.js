// The Tasks extension (SEP-2663), driven by clients that others wrote: ext-tasks, which is its authors' own and keeps a strict
// eye on what it gets, and both commands of the MCP Inspector. The tools are those that the conformance suite wants, and the demo's.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import {
	createTaskSessionFromClient,
	JsonRpcResponseError,
	resultFromTaskOutcome,
	TaskCancelledError,
	TaskFailedError,
} from '@modelcontextprotocol/ext-tasks/client';

import { call, connectDaemon, inspect } from './inspector.js';
import { startServer } from './server.js';

const version = '2026-07-28';
const extensions = { 'io.modelcontextprotocol/tasks': {} };
const clientInfo = { name: 'sluice-clients', version: '1.0.0' };
const clientCapabilities = { elicitation: { form: {} } };

// post is what ext-tasks leaves to its host: it sends a request as it is, for the SDK's own client refuses what a task is answered by.
async function post(url, request, { signal, context } = {}) {
	const name = request.method === 'tools/call' ? { 'mcp-name': request.params.name } : {};
	const response = await fetch(url, {
		method: 'POST',
		signal,
		headers: {
			'content-type': 'application/json',
			accept: 'application/json, text/event-stream',
			'mcp-protocol-version': version,
			'mcp-method': request.method,
			...name,
			...context?.headers, // has the name for methods of tasks
		},
		body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...request }),
	});
	let body = await response.text();
	if (response.headers.get('content-type').startsWith('text/event-stream')) {
		body = body.match(/^data: ?(.*)$/gm).at(-1).slice('data:'.length); // the response is the last event
	}
	const { result, error } = JSON.parse(body);
	return error ? { kind: 'error', error } : { kind: 'result', result };
}

// connect opens a session of ext-tasks, which answers questions by `answer`.
async function connect(url, answer) {
	const client = new Client(clientInfo, {
		capabilities: { ...clientCapabilities, extensions },
		versionNegotiation: { mode: { pin: version } },
	});
	await client.connect(new StreamableHTTPClientTransport(new URL(url)));
	const pushed = [];
	client.fallbackNotificationHandler = ({ method, params }) => pushed.push({ method, params });
	const sent = [];
	const questions = [];
	const session = createTaskSessionFromClient(client, {
		endpointId: 'the one', // the same for all replicas
		rawDispatch(request, options) {
			sent.push(request);
			return post(url, request, options);
		},
		v2RequestFraming: { protocolVersion: version, clientInfo, clientCapabilities },
		async onInputRequest({ kind, params }, { scope, inputId }) {
			questions.push({ kind, scope, message: params.message, inputId });
			return answer(params.message);
		},
	});
	return {
		client, session, questions, pushed,
		// updates is how often a question was answered.
		updates: () => sent.filter(({ method }) => method === 'tasks/update').length,
		async close() {
			await session.close();
			await client.close();
		},
	};
}

const accept = (content) => () => ({ action: 'accept', content });
const unasked = (message) => assert.fail(`asked ${message}`);
const textOf = (result) => result.content.map(({ text }) => text).join('\n');

// settle waits for an execution and returns its outcome, and the statuses that it went through, each once.
async function settle(execution) {
	const statuses = [];
	const { outcome } = await execution.settle({
		onEvent({ type, task }) {
			if (type === 'task' && statuses.at(-1) !== task.status) statuses.push(task.status);
		},
	});
	return { outcome, statuses };
}

let server;
before(async () => {
	server = await startServer('TASKS_SERVER');
});
after(() => server?.stop());

describe('ext-tasks', { concurrency: true }, () => {
	// using connects and calls f; the session does not outlive it.
	const using = async (answer, f) => {
		const client = await connect(server.url, answer);
		try {
			await f(client);
		} finally {
			await client.close();
		}
	};

	test('knows the server for one with tasks', () => using(unasked, async ({ session }) => {
		assert.deepEqual(session.capabilities, {
			inventory: 'known-handles', execution: true, cancellation: true, inputResponses: true, requestedRetention: false,
		});
	}));

	for (const [what, tool, args, text, isError] of [
		['a result', 'slow_compute', { seconds: 1.2, label: 'it' }, 'computed it'],
		['an error of the tool', 'failing_job', {}, 'the job failed', true],
	]) {
		test(`waits for ${what}`, () => using(unasked, async ({ session }) => {
			const execution = await session.callTool(tool, args);
			assert.equal(execution.kind, 'task');
			const { outcome, statuses } = await settle(execution);
			assert.deepEqual(statuses, ['working', 'completed']);
			const result = resultFromTaskOutcome(outcome);
			assert.equal(textOf(result), text);
			assert.equal(result.isError, isError);
		}));
	}

	test('takes an answer that is no task', () => using(unasked, async ({ session }) => {
		const execution = await session.callTool('greet', { name: 'you' });
		assert.equal(execution.kind, 'immediate');
		assert.equal(textOf(resultFromTaskOutcome(await execution.result())), 'Hello, you!');
	}));

	test('is told of an error of the protocol', () => using(unasked, async ({ session }) => {
		const { outcome, statuses } = await settle(await session.callTool('protocol_error_job'));
		assert.deepEqual(statuses, ['working', 'failed']);
		assert.throws(() => resultFromTaskOutcome(outcome), (err) => err instanceof TaskFailedError && err.code === -32603 && /the job broke/.test(err.message));
	}));

	for (const [what, answer, text] of [
		['confirms', accept({ confirm: true }), 'deleted all.txt'],
		['declines', () => ({ action: 'decline' }), 'kept all.txt'],
	]) {
		test(`asks a person, who ${what}`, () => using(answer, async ({ session, questions, updates }) => {
			const { outcome, statuses } = await settle(await session.callTool('confirm_delete', { filename: 'all.txt' }));
			assert.equal(textOf(resultFromTaskOutcome(outcome)), text);
			assert.deepEqual(questions, [{ kind: 'elicitation', scope: 'task', message: 'Delete all.txt?', inputId: 'confirm.1' }]);
			assert.equal(updates(), 1);
			assert.ok(statuses.includes('input_required'), statuses.join());
			assert.equal(statuses.at(-1), 'completed');
		}));
	}

	test('asks two things at once', () => using((message) => {
		return { action: 'accept', content: /name/.test(message) ? { name: 'Ada' } : { confirm: true } };
	}, async ({ session, questions }) => {
		const { outcome } = await settle(await session.callTool('multi_input'));
		assert.equal(textOf(resultFromTaskOutcome(outcome)), 'done, Ada');
		assert.deepEqual(questions.map(({ message }) => message).sort(), ['Go on?', 'What is your name?']);
	}));

	test('asks in the call, and has a task then', () => using(accept({ name: 'Ada' }), async ({ session, questions }) => {
		const execution = await session.callTool('test_tool_with_task');
		assert.equal(execution.kind, 'task');
		assert.deepEqual(questions.map(({ scope }) => scope), ['request']);
		assert.equal(textOf(resultFromTaskOutcome((await settle(execution)).outcome)), 'Hello, Ada!');
	}));

	test('cancels', () => using(unasked, async ({ session }) => {
		const execution = await session.callTool('slow_compute', { seconds: 60 });
		const settled = settle(execution);
		await execution.cancel();
		const { outcome } = await settled;
		assert.throws(() => resultFromTaskOutcome(outcome), TaskCancelledError);
		await execution.cancel(); // a second time does no harm
		assert.equal((await session.task(execution.handle.taskId).snapshot()).status, 'cancelled');
	}));

	test('cancels what waits for an answer', () => using(() => new Promise(() => {}), async ({ session }) => {
		const execution = await session.callTool('confirm_delete', { filename: 'all.txt' });
		const task = session.task(execution.handle.taskId);
		while ((await task.snapshot()).status === 'working') await new Promise((resolve) => setTimeout(resolve, 20));
		await execution.cancel();
		assert.equal((await task.snapshot()).status, 'cancelled');
	}));

	test('works by hand', () => using(unasked, async ({ session }) => {
		const { handle } = await session.callTool('slow_compute', { seconds: 0.2, label: 'by hand' });
		const task = session.task(handle.taskId);
		assert.equal((await task.snapshot()).taskId, handle.taskId);
		assert.equal(textOf(resultFromTaskOutcome(await task.result())), 'computed by hand');
		await task.updateJson({ 'nobody.1': { action: 'decline' } }); // nobody asked: of no effect, and no error
		await task.cancel(); // too late, likewise
		assert.equal((await task.snapshot()).status, 'completed');
	}));

	test('does not know a task that never was', () => using(unasked, async ({ session }) => {
		await assert.rejects(session.task('nobody').snapshot(), (err) => err instanceof JsonRpcResponseError && err.code === -32602);
		await assert.rejects(session.task('nobody').cancel(), (err) => err.code === -32602);
		await assert.rejects(session.task('nobody').updateJson({}), (err) => err.code === -32602);
	}));

	test('goes on in another session', () => using(unasked, async (one) => {
		const execution = await one.session.callTool('slow_compute', { seconds: 1, label: 'elsewhere' });
		let kept;
		await execution.handoff((reference) => {
			kept = JSON.stringify(reference);
		});
		await using(unasked, async ({ session }) => {
			const resumed = await session.resumeTask(JSON.parse(kept));
			assert.equal(resumed.handle.taskId, execution.handle.taskId);
			assert.equal(textOf(resultFromTaskOutcome((await settle(resumed)).outcome)), 'computed elsewhere');
		});
	}));

	test('hears of the end from the server', async () => {
		const listening = Promise.withResolvers();
		await using(() => listening.promise, async ({ client, session, pushed }) => {
			const execution = await session.callTool('confirm_delete', { filename: 'all.txt' });
			const { taskId } = execution.handle;
			const settled = settle(execution);
			const subscription = await client.listen({ taskIds: [taskId] });
			const told = () => pushed.filter(({ method }) => method === 'notifications/tasks').map(({ params }) => params);
			const until = async (is) => {
				while (!told().some(({ status }) => is(status))) await new Promise((resolve) => setTimeout(resolve, 20));
			};
			await until((status) => status === 'input_required');
			listening.resolve({ action: 'accept', content: { confirm: true } });
			await until((status) => status === 'completed');
			assert.ok(told().every((task) => task.taskId === taskId));
			const last = told().at(-1);
			assert.equal(last.status, 'completed');
			assert.equal(textOf(last.result), 'deleted all.txt');
			assert.equal(textOf(resultFromTaskOutcome((await settled).outcome)), 'deleted all.txt');
			await subscription.close();
		});
	});
});

// Two replicas with one store. Where there is none, CI fails.
const store = process.env.SLUICE_TEST_REDIS_URL;
describe('ext-tasks, with two replicas', { skip: !store && !process.env.CI && 'SLUICE_TEST_REDIS_URL names no Redis' }, () => {
	let replicas;
	before(async () => {
		assert.ok(store, 'CI needs a real Redis: set SLUICE_TEST_REDIS_URL');
		const env = { MCP_STORE_URL: store };
		replicas = await Promise.all([startServer('DEMO_SERVER', env), startServer('DEMO_SERVER', env)]);
	});
	after(() => replicas?.[1].stop());

	test('survives the one that works, and is answered at the other', async () => {
		const one = await connect(replicas[0].url, unasked);
		const execution = await one.session.callTool('audit', { steps: 40, delay_ms: 50 }); // asks after a second, at the earliest
		const reference = JSON.stringify(execution.serializeReference());
		await replicas[0].kill();
		const other = await connect(replicas[1].url, accept({ go_on: true }));
		try {
			const resumed = await other.session.resumeTask(JSON.parse(reference));
			const { outcome, statuses } = await settle(resumed);
			assert.deepEqual(resultFromTaskOutcome(outcome).structuredContent, { checked: 40, complete: true });
			assert.deepEqual(other.questions.map(({ message }) => message), ['20 of 40 steps are done. Go on?']);
			assert.equal(statuses.at(-1), 'completed');
		} finally {
			await other.close();
			await one.close(); // its server is gone: there is nobody to cancel the task at
		}
	});
});

// Clients that do not declare the extension.
describe('TypeScript client, which knows no tasks', () => {
	let client;
	before(async () => {
		client = new Client(clientInfo, { capabilities: clientCapabilities, versionNegotiation: { mode: { pin: version } } });
		client.setRequestHandler('elicitation/create', accept({ confirm: true }));
		await client.connect(new StreamableHTTPClientTransport(new URL(server.url)));
	});
	after(() => client?.close());

	test('has its call answered as ever', async () => {
		assert.equal(textOf(await client.callTool({ name: 'slow_compute', arguments: { seconds: 0.5, label: 'at once' } })), 'computed at once');
		assert.equal(textOf(await client.callTool({ name: 'confirm_delete', arguments: { filename: 'f' } })), 'deleted f');
	});

	test('is told what it lacks', async () => {
		await assert.rejects(client.callTool({ name: 'failing_job' }), (err) => {
			assert.equal(err.code, -32021);
			assert.deepEqual(err.data.requiredCapabilities, { extensions });
			return true;
		});
	});
});

describe('Inspector and tasks', () => {
	const ask = (tool, args = {}) => inspect(server.url, 'modern', ...call(tool, args));
	// failing returns what a command prints that must end with a code.
	const failing = async (promise, code) => {
		const err = await promise.then(() => assert.fail('it ended with 0'), (err) => err);
		assert.equal(err.code, code, err.stderr);
		return { stdout: err.stdout && JSON.parse(err.stdout), message: JSON.parse(err.stderr.trim().split('\n').at(-1)).error.message };
	};

	test('waits for a slow one', async () => {
		assert.equal(textOf(await ask('slow_compute', { seconds: 2, label: 'slowly' })), 'computed slowly');
	});

	test('ends with 5 for an error of the tool', async () => {
		const { stdout } = await failing(ask('failing_job'), 5);
		assert.equal(stdout.result.isError, true);
		assert.equal(textOf(stdout.result), 'the job failed');
	});

	test('ends with 1 for one that has failed', async () => {
		assert.match((await failing(ask('protocol_error_job'), 1)).message, /the job broke/);
	});

	test('ends with 1 for one that asks what it cannot answer', async () => {
		assert.match((await failing(ask('confirm_delete', { filename: 'f' }), 1)).message, /capability/);
	});

	describe('by hand', () => {
		let daemon;
		before(async () => {
			daemon = await connectDaemon(server.url, 'modern');
		});
		after(() => daemon?.stop());

		// begin has a task begun, and returns its ID: mcpdo itself would wait for its end.
		const begin = async (name, args) => {
			const meta = {
				'io.modelcontextprotocol/protocolVersion': version,
				'io.modelcontextprotocol/clientCapabilities': { ...clientCapabilities, extensions },
			};
			const { result } = await post(server.url, { method: 'tools/call', params: { name, arguments: args, _meta: meta } });
			assert.equal(result.resultType, 'task');
			return result.taskId;
		};

		test('answers a question', async () => {
			const id = await begin('confirm_delete', { filename: 'f' });
			let task;
			do ({ task } = await daemon.do('tasks/get', id));
			while (task.status === 'working');
			assert.deepEqual(Object.keys(task.raw.inputRequests), ['confirm.1']);
			const answers = { 'confirm.1': { action: 'accept', content: { confirm: true } } };
			await daemon.do('tasks/update', id, '--input-responses', JSON.stringify(answers));
			assert.equal(textOf(await daemon.do('tasks/result', id)), 'deleted f');
		});

		test('cancels', async () => {
			const id = await begin('slow_compute', { seconds: 60 });
			assert.equal((await daemon.do('tasks/cancel', id)).cancelled, true);
			assert.match((await failing(daemon.do('tasks/result', id), 1)).message, /cancelled/);
		});

		test('knows none that never was', async () => {
			assert.match((await failing(daemon.do('tasks/get', 'nobody'), 1)).message, /no task/);
		});
	});
});
