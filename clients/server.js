// A server as a child process.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

// startServer starts the server whose binary an environment variable names, on
// a free port, and returns when it is ready. The caller must stop it, or kill it.
export async function startServer(variable = 'DEMO_SERVER', env = {}) {
	const binary = process.env[variable];
	assert.ok(binary, `${variable} must name the binary of a server`);
	const child = spawn(binary, [], {
		env: { ...process.env, MCP_SERVER_PORT: '0', LOG_FORMAT: 'json', ...env },
		stdio: ['ignore', 'ignore', 'pipe'],
	});
	const exited = once(child, 'exit');
	const log = [];
	const url = await new Promise((resolve, reject) => {
		createInterface({ input: child.stderr }).on('line', (line) => {
			log.push(line);
			const found = /\burl"?[:=]"?([^"\s]+)/.exec(line);
			if (found) resolve(found[1]);
		});
		child.once('error', reject);
		exited.then(([code]) => reject(new Error(`the server ended with code ${code}:\n${log.join('\n')}`)));
	});
	// When no test of a file is chosen, Node's runner calls `before` and never `after`: nobody may have to wait for this server.
	child.unref();
	child.stderr.unref();
	const kill = () => child.kill('SIGKILL');
	process.once('exit', kill);
	const ended = () => {
		child.ref();
		process.off('exit', kill);
		return exited;
	};
	return {
		url,
		// stop fails unless the server ends by itself, in good order, after SIGTERM.
		async stop() {
			child.kill('SIGTERM');
			const [code, signal] = await ended();
			assert.equal(code ?? signal, 0, `the server did not end in good order:\n${log.join('\n')}`);
		},
		// kill ends the server at once, as if its machine had gone.
		async kill() {
			kill();
			await ended();
		},
	};
}
