'use strict';

// Stores and uses tokens at the places and in the ways of social-publisher: OAuth callbacks, Telegram, publish,
// and the job that refreshes. TOKENS names what takes the place of its lib/token-crypto.

const express = require('express');
const { Pool } = require('pg');
const { decryptToken, encryptToken } = require(process.env.TOKENS);

const { DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME, PORT, PROVIDER } = process.env;
const pool = new Pool({ host: DB_HOST, port: DB_PORT, user: DB_USER, password: DB_PASSWORD, database: DB_NAME, max: 4 });
const app = express();
app.use(express.json());

const insert =
  'INSERT INTO connected_channels (platform, channel_id, access_token, refresh_token, metadata) VALUES ($1, $2, $3, $4, $5) RETURNING id';

app.get('/health', (_, response) => response.json({ ok: true }));

// The callbacks of OAuth.
app.post('/connect/:platform/:channel', async (request, response) => {
  const { platform, channel } = request.params;
  const of = (kind) => encryptToken(`${kind}-${platform}-${channel}`);
  const metadata = { name: channel, refresh_token: of('refresh') };
  if (platform === 'twitter') metadata.access_secret = of('secret');
  const refresh = platform === 'linkedin' ? of('refresh') : null;
  const { rows } = await pool.query(insert, [platform, channel, of('access'), refresh, metadata]);
  response.status(201).json(rows[0]);
});

// Telegram, as it is before: the bot's token is stored as it is. TELEGRAM=sealed is the changed line.
app.post('/telegram', async (request, response) => {
  const { token } = request.body;
  const stored = process.env.TELEGRAM === 'sealed' ? encryptToken(token) : token;
  const { rows } = await pool.query(insert, ['telegram', '@channel', stored, null, {}]);
  response.status(201).json(rows[0]);
});

// A post to every channel that is asked for: each token is decrypted first, and Telegram's used at its own place.
app.post('/publish', async (request, response) => {
  const { rows } = await pool.query('SELECT * FROM connected_channels WHERE id = ANY($1) ORDER BY id', [request.body.channels]);
  for (const channel of rows) {
    const token = decryptToken(channel.access_token);
    if (channel.platform === 'telegram') {
      const bot = process.env.TELEGRAM === 'sealed' ? decryptToken(channel.access_token) : channel.access_token;
      await send(`/bot${bot}/sendMessage`, {});
    } else {
      const secret = channel.metadata.access_secret && decryptToken(channel.metadata.access_secret);
      await send(`/publish/${channel.platform}/${channel.channel_id}`, { token, secret });
    }
  }
  response.json({ published: rows.length });
});

// services/token-refresh: what is due is refreshed, and what comes back is stored.
app.post('/refresh/:id', async (request, response) => {
  const { rows } = await pool.query('SELECT * FROM connected_channels WHERE id = $1', [request.params.id]);
  const channel = rows[0];
  const refresh = decryptToken(channel.refresh_token ?? channel.metadata.refresh_token);
  await send(`/refresh/${channel.platform}/${channel.channel_id}`, { token: refresh });
  const access = encryptToken(`access-${channel.platform}-${channel.channel_id}`);
  await pool.query('UPDATE connected_channels SET access_token = $2 WHERE id = $1', [channel.id, access]);
  response.json({ ok: true });
});

async function send(path, body) {
  const answer = await fetch(`${PROVIDER}${path}`, { method: 'POST', body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`the provider refused ${path.split('/')[1]}`);
}

app.listen(PORT, '127.0.0.1');
