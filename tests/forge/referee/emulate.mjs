// Starts the GitHub of the npm package `emulate` on this machine alone, with a repository, a pull
// request and an app, behind a door that has the API where an Enterprise server has it.
//
//   node emulate.mjs FOLDER SETTINGS    FOLDER: where npm installed it; SETTINGS: JSON, see below
//
// Prints one line of JSON once it answers, and ends with its standard input.
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const PREFIX = '/api/v3'
const PERSON = 'person'
const [folder, text] = process.argv.slice(2)
const { owner, name, app, slug, installation, key } = JSON.parse(text)
const api = path.join(folder, 'node_modules/emulate/dist/api.js')
const { createEmulator } = await import(pathToFileURL(api).href)

// The emulator takes no port 0.
const free = () =>
  new Promise((done) => {
    const probe = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => done(port))
    })
  })

const permissions = { checks: 'write', issues: 'write', pull_requests: 'write', contents: 'write' }
const emulator = await createEmulator({
  service: 'github',
  port: await free(),
  seed: {
    tokens: { [PERSON]: { login: owner, scopes: ['repo'] } },
    github: {
      // GitHub makes the app's own account; here it has to be there before.
      users: [{ login: owner }, { login: `${slug}[bot]` }],
      repos: [{ owner, name, auto_init: true }],
      apps: [
        {
          app_id: app,
          slug,
          name: slug,
          private_key: key,
          permissions,
          installations: [{ installation_id: installation, account: owner, repository_selection: 'all' }],
        },
      ],
    },
  },
})
const upstream = new URL(emulator.url.replace('localhost', '127.0.0.1'))

const door = http.createServer((asked, answer) => {
  if (!asked.url.startsWith(`${PREFIX}/`)) {
    answer.writeHead(404).end()
    return
  }
  const on = { port: upstream.port, host: '127.0.0.1', method: asked.method }
  const headers = { ...asked.headers, host: upstream.host }
  const passed = http.request({ ...on, path: asked.url.slice(PREFIX.length), headers }, (from) => {
    answer.writeHead(from.statusCode, from.headers)
    from.pipe(answer)
  })
  passed.on('error', () => answer.destroy())
  asked.pipe(passed)
})
const at = await new Promise((done) => door.listen(0, '127.0.0.1', () => done(door.address().port)))

// A person's side of it: a branch with a change, and a pull request.
const login = { authorization: `Bearer ${PERSON}`, 'content-type': 'application/json' }
const call = async (method, rest, body) => {
  const url = `${upstream.origin}/repos/${owner}/${name}${rest}`
  const reply = await fetch(url, { method, headers: login, body: body && JSON.stringify(body) })
  if (!reply.ok) throw new Error(`${method} ${rest}: ${reply.status} ${await reply.text()}`)
  return reply.json()
}
const base = (await call('GET', '/git/ref/heads/main')).object.sha
await call('POST', '/git/refs', { ref: 'refs/heads/change', sha: base })
const content = Buffer.from('a change\n').toString('base64')
await call('PUT', '/contents/lab.yaml', { message: 'A change', content, branch: 'change' })
const pull = await call('POST', '/pulls', { title: 'A change', head: 'change', base: 'main' })
console.log(JSON.stringify({ url: `http://127.0.0.1:${at}`, number: pull.number, head: pull.head.sha }))

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
