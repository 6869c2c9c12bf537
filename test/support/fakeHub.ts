/** A model hub on the loopback interface: what `@huggingface/hub` asks of the real one, from memory. */
import { createHash } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeFile {
  data: Buffer;
  /** Kept by SHA-256 on another server, to which the hub redirects. */
  large?: boolean;
}

/** What goes wrong. */
export interface Mischief {
  /** The body of this file has another byte in its middle. */
  damaged?: string;
  /** The body of this file is cut off in its middle. */
  cut?: string;
  /** The body of this file stops in its middle, for ever. */
  stalled?: string;
  /** Every request is answered so. */
  status?: number;
  /** What the hub says the commit is. */
  sha?: string;
  /** What it lists as a file's hash. */
  hash?: string;
  /** Files that it lists beside those that were asked for. */
  extra?: string[];
}

export interface SeenRequest {
  server: 'hub' | 'cdn';
  path: string;
  authorization: string | undefined;
}

export class FakeHub {
  readonly requests: SeenRequest[] = [];
  mischief: Mischief = {};
  commit = 'c'.repeat(40);
  private readonly hub = createServer((request, response) => this.answerHub(request, response));
  private readonly cdn = createServer((request, response) => this.answerCdn(request, response));

  constructor(
    readonly repository: string,
    public files: Record<string, FakeFile>,
    /** Branches and tags. */
    public references: Record<string, string> = { main: 'c'.repeat(40) },
  ) {}

  async start(): Promise<void> {
    for (const server of [this.hub, this.cdn]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.hub, this.cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  get url(): string {
    return address(this.hub);
  }

  private answerHub(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent((request.url ?? '').split('?')[0] as string);
    this.requests.push({ server: 'hub', path, authorization: request.headers.authorization });
    if (this.mischief.status !== undefined) return fail(response, this.mischief.status);
    const api = `/api/models/${this.repository}/`;
    if (path.startsWith(`${api}revision/`)) {
      const commit = this.commitOf(path.slice(`${api}revision/`.length));
      return commit === null
        ? fail(response, 404)
        : json(response, { id: this.repository, sha: this.mischief.sha ?? commit });
    }
    if (path.startsWith(`${api}paths-info/`)) {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        const { paths } = JSON.parse(body) as { paths: string[] };
        const names = [...paths.filter((name) => name in this.files), ...(this.mischief.extra ?? [])];
        json(
          response,
          names.map((name) => this.listing(name)),
        );
      });
      return;
    }
    const found = new RegExp(`^/${this.repository}/resolve/([^/]+)/(.+)$`).exec(path);
    const name = found?.[2] ?? '';
    const file = this.files[name];
    if (!file || this.commitOf(found?.[1] ?? '') === null) return fail(response, 404);
    response.setHeader('X-Repo-Commit', this.commit);
    if (!file.large) return this.send(request, response, name, file);
    response.setHeader('X-Linked-Size', file.data.length);
    response.setHeader('X-Linked-ETag', `"${sha256(file.data)}"`);
    response.writeHead(302, { location: `${address(this.cdn)}/${name}` }).end();
  }

  private answerCdn(request: IncomingMessage, response: ServerResponse): void {
    const name = (request.url ?? '').slice(1);
    this.requests.push({ server: 'cdn', path: name, authorization: request.headers.authorization });
    this.send(request, response, name, this.files[name] as FakeFile);
  }

  private send(request: IncomingMessage, response: ServerResponse, name: string, { data, large }: FakeFile): void {
    response.setHeader('ETag', `"${large ? sha256(data) : gitHash(data)}"`);
    if (request.headers.range === 'bytes=0-0') {
      response.writeHead(206, { 'content-range': `bytes 0-0/${data.length}`, 'content-length': 1 });
      response.end(data.subarray(0, 1));
      return;
    }
    const half = data.length >> 1;
    const body = Buffer.from(data);
    if (this.mischief.damaged === name) body[half] = (body[half] as number) ^ 1;
    response.writeHead(200, { 'content-length': body.length });
    if (this.mischief.cut === name || this.mischief.stalled === name) {
      response.write(body.subarray(0, half), () => {
        if (this.mischief.cut === name) response.destroy();
      });
      return;
    }
    response.end(body);
  }

  private listing(name: string): object {
    const { data, large } = this.files[name] ?? { data: Buffer.from('?') };
    const hash = this.mischief.hash;
    return {
      type: 'file',
      path: name,
      size: data.length,
      oid: hash ?? gitHash(data),
      ...(large ? { lfs: { oid: hash ?? sha256(data), size: data.length, pointerSize: 130 } } : {}),
    };
  }

  private commitOf(revision: string): string | null {
    return this.references[revision] ?? (Object.values(this.references).includes(revision) ? revision : null);
  }
}

export const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** How git names a file's contents. */
export const gitHash = (data: Buffer): string =>
  createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function fail(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ error: `status ${status}` }));
}
