// The commands of the MCP Inspector: `inspector --cli`, which makes one call, and `mcpdo`, whose daemon holds a connection.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

// run runs one of the commands and returns the JSON that it prints. Where it fails, the error has its exit code in `code`, and what
// it said in `stdout` and `stderr`.
export async function run(command, args, env = {}) {
	const bin = join(import.meta.dirname, 'node_modules', '.bin', command);
	const { stdout } = await promisify(execFile)(process.execPath, [bin, ...args], {
		// In files, for the Inspector warns about a machine without a keychain.
		env: { ...process.env, MCP_INSPECTOR_SECRET_STORE: 'file', ...env },
		timeout: 30_000,
	});
	return JSON.parse(stdout);
}

// inspect makes one request of a server with `inspector --cli` and returns its result.
export async function inspect(url, era, ...args) {
	const fixed = ['--cli', '--transport', 'http', '--server-url', url, '--protocol-era', era, '--format', 'json', '--quiet'];
	return (await run('inspector', [...fixed, ...args])).result;
}

// call is the arguments for a call of a tool.
export const call = (tool, args) => ['--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args)];

// connectDaemon starts a daemon of mcpdo that is connected to a server. The caller must stop it.
export async function connectDaemon(url, era) {
	const dir = await mkdtemp(join(tmpdir(), 'mcpdo-')); // a short path, for it holds a Unix socket
	const mcpdo = (...args) => run('mcpdo', ['--format', 'json', ...args], { MCP_INSPECTOR_DAEMON_DIR: dir });
	const stop = async () => {
		await mcpdo('daemon', 'stop');
		await rm(dir, { recursive: true, force: true });
	};
	try {
		const connection = await mcpdo('connect', '--transport', 'http', '--era', era, url);
		return { connection, do: (...args) => mcpdo('--connection', url, ...args), stop };
	} catch (err) {
		await stop();
		throw err;
	}
}
