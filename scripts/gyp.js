'use strict';
// Runs node-gyp with headers that are on this machine already; downloads nothing. A Node-API addon needs four headers only, which
// node-api-headers ships: where no Node headers of the running version are found, a folder made of those serves.
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '..');

function headerVersion(prefix) {
  try {
    const text = fs.readFileSync(path.join(prefix, 'include/node/node_version.h'), 'utf8');
    return ['MAJOR', 'MINOR', 'PATCH']
      .map((part) => new RegExp(`#define NODE_${part}_VERSION (\\d+)`).exec(text)[1])
      .join('.');
  } catch {
    return null;
  }
}

function syntheticHeaders() {
  const directory = path.join(root, 'node_modules', '.cache', 'node-api-dir');
  const include = path.join(directory, 'include', 'node');
  fs.mkdirSync(include, { recursive: true });
  const source = require('node-api-headers').include_dir;
  for (const file of fs.readdirSync(source)) fs.copyFileSync(path.join(source, file), path.join(include, file));
  const gypi = {
    variables: { 'node_engine%': 'v8', 'standalone_static_library%': 1, 'openssl_fips%': '' },
    target_defaults: {
      default_configuration: 'Release',
      configurations: { Debug: { cflags: ['-g', '-O0'] }, Release: { cflags: ['-O3'], defines: ['NDEBUG'] } },
      cflags: ['-fPIC', '-pthread'],
      ldflags: ['-pthread'],
    },
  };
  fs.writeFileSync(path.join(include, 'common.gypi'), JSON.stringify(gypi));
  return directory;
}

function headers() {
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir;
  const { node } = process.versions;
  const places = [
    path.resolve(fs.realpathSync(process.execPath), '../..'),
    path.join(os.homedir(), '.cache/node-gyp', node),
    '/usr',
    '/usr/local',
  ];
  return places.find((place) => headerVersion(place) === node) ?? syntheticHeaders();
}

const args = process.argv.slice(2);
const gyp = require.resolve('node-gyp/bin/node-gyp.js', { paths: [root] });
const { status } = spawnSync(
  process.execPath,
  [gyp, ...(args.length > 0 ? args : ['rebuild']), `--nodedir=${headers()}`],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
process.exit(status ?? 1);
