/** A backend in a library of its own: what is refused says why, in `devices()` and to whoever names the device. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repository } from '../support/cli';
import { compileNative } from './support/compileNative';

const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-plugin-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Seen {
  /** What `devices()` says of CUDA. */
  cuda: { devices: { name: string; product: string }[]; reason: string | null };
  /** Name and message of what `device: 'cuda'` throws; null: nothing. */
  named: string | null;
  /** The device behind 'auto'. */
  auto: string;
  /** CPU works whatever the plugin does. */
  sum: number;
}

/** @param fields of the answer, as JavaScript */
function answersWith<T>(plugin: string, fields: string): T {
  const program = `
    const { devices, Tensor, add } = require('./lib');
    const attempt = (device) => {
      try {
        Tensor.zeros([2], { device });
        return null;
      } catch (error) {
        return error.name + ' ' + error.code + ' ' + error.message;
      }
    };
    const cuda = devices().find(({ backend }) => backend === 'cuda');
    const one = Tensor.full([1], 1, { device: 'cpu' });
    add(one, one).item().then((sum) => console.log(JSON.stringify({ cuda, sum, ${fields} })));`;
  const env = { ...process.env, XLFORMERS_CUDA_PLUGIN: plugin, XLFORMERS_DEVICE: '' };
  const args = ['-r', 'ts-node/register/transpile-only', '-e', program];
  return JSON.parse(execFileSync(process.execPath, args, { cwd: repository, env, encoding: 'utf8' })) as T;
}

/** Compiles a plugin. */
function plugin(name: string, body: string): string {
  const source = path.join(folder, `${name}.cc`);
  writeFileSync(source, `#include "core/backend.h"\n#include "core/status.h"\nusing namespace xlformers;\n${body}\n`);
  return compileNative(folder, `${name}.so`, [source], ['-shared', '-fPIC']);
}

const table = (members: string) => `
  extern "C" const Backend* xlformers_backend() {
    static Backend backend{};
    backend.abi = kBackendAbi;
    backend.table_bytes = sizeof(Backend);
    backend.name = "cuda";
    ${members}
    return &backend;
  }`;

function expectRefused(file: string, reason: string | RegExp): void {
  const seen = answersWith<Seen>(file, "named: attempt('cuda'), auto: Tensor.zeros([2]).device.name");
  expect(seen).toMatchObject({ cuda: { devices: [] }, auto: 'cpu', sum: 2 });
  expect(seen.cuda.reason).toEqual(expect.stringMatching(reason));
  expect(seen.named).toBe(`XlformersError ERR_DEVICE device: 'cuda' cannot be had: ${seen.cuda.reason}`);
}

test('a plugin for another interface is refused by its number', () => {
  const file = plugin('other', table('backend.abi = kBackendAbi + 41;'));
  const own = Number(/kBackendAbi = (\d+)/.exec(readFileSync(path.join(repository, 'native/core/backend.h'), 'utf8'))?.[1]);
  expectRefused(file, `^${file}: built for backend interface ${own + 41}, this build has ${own}; install matching versions$`);
});

test('a table of another size is refused', () => {
  const file = plugin('short', table('backend.table_bytes -= 8;'));
  expectRefused(file, new RegExp(`^${file}: its backend table has \\d+ bytes, this build's \\d+; install matching versions$`));
});

test('a library that is no plugin', () => {
  const file = plugin('stranger', 'extern "C" int something_else() { return 1; }');
  expectRefused(file, `^${file}: no function xlformers_backend$`);
});

test('a plugin that gives no backend, and one under another name', () => {
  const empty = plugin('empty', 'extern "C" const Backend* xlformers_backend() { return nullptr; }');
  expectRefused(empty, `^${empty}: gave no backend$`);
  const misnamed = plugin('misnamed', table('backend.name = "opencl";'));
  expectRefused(misnamed, `^${misnamed}: a plugin for 'opencl', expected 'cuda'$`);
});

test('what is no library', () => {
  const text = path.join(folder, 'text.so');
  writeFileSync(text, 'not a library, but long enough to hold the header of one: '.repeat(10));
  expectRefused(text, `^the cuda plugin cannot be opened: ${text}: \\S+`);
  const absent = path.join(folder, 'absent.so');
  expectRefused(absent, `^the cuda plugin cannot be opened: ${absent}: \\S+`);
  expectRefused(folder, `^the cuda plugin cannot be opened: ${folder}: \\S+`);
});

test('a plugin without devices says why in its own words', () => {
  const file = plugin(
    'deviceless',
    table(`
      backend.device_count = [](Status* why) -> int32_t {
        *why = make_status(StatusCode::device, "the driver is too old: %d", 11);
        return 0;
      };`),
  );
  expectRefused(file, '^the driver is too old: 11$');
});

test('a plugin with a device is listed, and an index beyond is refused', () => {
  const file = plugin(
    'working',
    table(`
      backend.device_count = [](Status*) -> int32_t { return 1; };
      backend.device_info = [](int32_t, DeviceInfo* info) -> Status {
        std::snprintf(info->name, sizeof info->name, "%s", "Test Accelerator");
        return Status{};
      };
      backend.open_stream = [](int32_t, BackendStream**) -> Status { return make_status(StatusCode::device, "no stream today"); };`),
  );
  const seen = answersWith<Seen & { beyond: string }>(file, "named: attempt('cuda'), beyond: attempt('cuda:1')");
  expect(seen.cuda).toMatchObject({ devices: [{ name: 'cuda:0', product: 'Test Accelerator' }], reason: null });
  expect(seen.beyond).toBe("XlformersError ERR_DEVICE device: 'cuda:1' cannot be had: there is cuda:0 only");
  expect(seen.named).toMatch(/^XlformersError ERR_DEVICE .*no stream today$/);
});
