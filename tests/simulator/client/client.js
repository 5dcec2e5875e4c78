// Drives the npm package `bitbucket` against the simulator: node client.js API EMAIL SECRET
"use strict";
const assert = require("node:assert");
const { Bitbucket } = require("bitbucket");

const [api, username, password] = process.argv.slice(2);
const client = new Bitbucket({ baseUrl: api, auth: { username, password }, notice: false });
const website = { workspace: "acme", repo_slug: "website" };
const fresh = { workspace: "acme", repo_slug: "fresh" };

async function reads() {
  const listed = await client.repositories.list({ workspace: "acme" });
  assert.strictEqual(listed.data.values.length, 4);
  const pulls = await client.pullrequests.list(website);
  const pull_request_id = pulls.data.values[0].id;
  assert.strictEqual(pull_request_id, 3);
  const comments = await client.pullrequests.listComments({ ...website, pull_request_id });
  assert.strictEqual(comments.data.values.length, 2);
  const diff = await client.pullrequests.getDiff({ ...website, pull_request_id });
  assert.match(diff.data, /blog.html/);
  const refs = await client.refs.list(website);
  assert.ok(refs.data.values.some((one) => one.name === "v1.0"));
  const branches = await client.refs.listBranches(website);
  assert.ok(branches.data.values.some((one) => one.name === "main"));
  const commit = branches.data.values.find((one) => one.name === "main").target.hash;
  const source = await client.source.read({ ...website, commit, path: "README.md" });
  assert.match(source.data, /website/);
  const statuses = await client.commitstatuses.list({ ...website, commit });
  assert.deepStrictEqual(statuses.data.values.map((one) => one.key), ["nightly"]);
  const hooks = await client.repositories.listWebhooks(website);
  assert.strictEqual(hooks.data.values.length, 1);
}

async function writes() {
  await client.repositories.create({ ...fresh, _body: { scm: "git", project: { key: "WEB" } } });
  await client.pipelines.createVariable({ ...fresh, _body: { key: "KEY", value: "v", secured: false } });
  await client.repositories.createWebhook({
    ...fresh, _body: { url: "https://ci.example.org/", description: "CI", active: false, events: ["repo:push"] },
  });
  await client.pullrequests.createComment({
    ...website, pull_request_id: 3, _body: { content: { raw: "Hm." } },
  });
  await assert.rejects(client.pullrequests.create({ ...fresh, _body: { title: "T" } }), { status: 400 });
}

reads().then(writes).catch((error) => {
  console.error(error);
  process.exit(1);
});
