#!/usr/bin/env node
'use strict';
// The compiled command line where there is one; in a checkout without, the sources.
const { existsSync } = require('node:fs');
const path = require('node:path');

const compiled = path.join(__dirname, '..', 'dist', 'lib', 'cli', 'main.js');
if (!existsSync(compiled)) require('ts-node/register/transpile-only');
const { main } = require(existsSync(compiled) ? compiled : '../lib/cli/main.ts');
void main(process.argv);
