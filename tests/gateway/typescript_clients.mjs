// Clients in TypeScript's packages, for test_typescript.py and test_ai_sdk.py: one JSON object on a line of standard
// input says what to do, one on standard output says what came of it.

import { createInterface } from "node:readline";
import Anthropic, { toFile } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const MODEL = "claude-opus-4-7";
const WEATHER = {
  name: "weather",
  description: "The weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const sdk = ({ url, key = "any", retries = 0, headers = {} }) =>
  new Anthropic({ baseURL: url, apiKey: key, maxRetries: retries, defaultHeaders: headers });
const asked = ({ question, more = {} }) => ({
  model: MODEL,
  max_tokens: 1024,
  messages: [{ role: "user", content: question }],
  ...more,
});
const shown = ({ content, stop_reason, usage, model }) => ({ content, stop_reason, usage, model });
const headersOf = (response) => Object.fromEntries(response.headers.entries());

const sdkActs = {
  async create(given) {
    const { data, response, request_id } = await sdk(given).messages.create(asked(given)).withResponse();
    return { ...shown(data), headers: headersOf(response), request_id };
  },

  async stream(given) {
    const stream = sdk(given).messages.stream(asked(given));
    const [pieces, events, started] = [[], [], []];
    stream.on("text", (piece) => pieces.push(piece));
    stream.on("streamEvent", (event) => {
      events.push(event.type);
      if (event.type === "message_start") started.push(event.message.usage);
    });
    const message = await stream.finalMessage();
    const { response } = await stream.withResponse();
    return { ...shown(message), text: pieces.join(""), events, started, headers: headersOf(response) };
  },

  async events(given) {
    const stream = await sdk(given).messages.create({ ...asked(given), stream: true });
    const events = [];
    for await (const event of stream) events.push(event);
    return { events };
  },

  async toolRunner(given) {
    const called = [];
    const weather = betaTool({
      name: WEATHER.name,
      description: WEATHER.description,
      inputSchema: WEATHER.input_schema,
      run: (input) => (called.push(input), "Sunny."),
    });
    const runner = sdk(given).beta.messages.toolRunner({ ...asked(given), tools: [weather], stream: given.stream });
    return { ...shown(await runner.runUntilDone()), called };
  },

  async countTokens(given) {
    const { max_tokens, ...counted } = asked(given);
    return sdk(given).messages.countTokens(counted);
  },

  async models(given) {
    const client = sdk(given);
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids, one: await client.models.retrieve(MODEL) };
  },

  async batches(given) {
    const batches = sdk(given).messages.batches;
    const requests = ["a", "b"].map((custom_id) => ({ custom_id, params: asked(given) }));
    const made = await batches.create({ requests });
    const ended = await batches.retrieve(made.id);
    const results = {};
    for await (const { custom_id, result } of await batches.results(made.id)) {
      results[custom_id] = [result.type, shown(result.message)];
    }
    const listed = [];
    for await (const batch of batches.list()) listed.push(batch.id === made.id);
    const canceled = await batches.cancel(made.id);
    return { made: made.processing_status, ended: ended.processing_status, results, listed, canceled: canceled.type };
  },

  async files(given) {
    const files = sdk(given).beta.files;
    const content = Buffer.from(Array.from({ length: 512 }, (_, index) => index % 256));
    const made = await files.upload({ file: await toFile(content, "a.bin", { type: "application/pdf" }) });
    const listed = [];
    for await (const file of files.list()) listed.push(file.id === made.id);
    const back = Buffer.from(await (await files.download(made.id)).arrayBuffer());
    const deleted = await files.delete(made.id);
    return { name: made.filename, size: made.size_bytes, listed, unchanged: back.equals(content), deleted: deleted.type };
  },

  // All questions, to the gateways in turn, some at a time: when each call began, and what was said of its decision.
  async traffic(given) {
    const clients = given.urls.map((url) => sdk({ ...given, url }));
    const [left, calls] = [[...given.questions.entries()], []];
    const caller = async () => {
      for (let next; (next = left.shift()); ) {
        const [number, question] = next;
        const gateway = number % clients.length;
        const begunAt = Date.now() / 1000;
        const { data, response } = await clients[gateway].messages.create(asked({ question })).withResponse();
        const said = (name) => response.headers.get(`x-cheapdeep-${name}`);
        const endedAt = Date.now() / 1000;
        calls.push({ gateway, begunAt, endedAt, threshold: Number(said("threshold")), model: data.model });
      }
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    return { calls };
  },

  async abort(given) {
    const stream = sdk(given).messages.stream(asked(given));
    const pieces = [];
    stream.on("text", (piece) => (pieces.push(piece), stream.abort()));
    try {
      await stream.finalMessage();
    } catch (error) {
      return { error: error.constructor.name, started: pieces.length > 0 };
    }
    return { error: null };
  },
};

const model = ({ url, key = "any" }) => createAnthropic({ baseURL: `${url}/v1`, apiKey: key })(MODEL);
const told = ({ text, finishReason, usage, toolCalls = [] }) => ({
  text,
  finishReason,
  usage: usage && { input: usage.inputTokens, output: usage.outputTokens },
  calls: toolCalls.map(({ toolName, input }) => [toolName, input]),
});
const tools = {
  weather: tool({
    description: WEATHER.description,
    inputSchema: z.object({ city: z.string() }),
    execute: async () => "Sunny.",
  }),
};

const aiSdkActs = {
  async generateText(given) {
    const result = await generateText({ model: model(given), prompt: given.question, maxRetries: given.retries ?? 0 });
    return { ...told(result), maxTokens: result.request.body?.max_tokens, steps: result.steps.length };
  },

  async streamText(given) {
    let failure;
    const onError = ({ error }) => (failure = error);
    const result = streamText({ model: model(given), prompt: given.question, maxRetries: given.retries ?? 0, onError });
    const pieces = [];
    for await (const piece of result.textStream) pieces.push(piece);
    if (failure) throw failure;
    const [finishReason, usage] = [await result.finishReason, await result.usage];
    return { ...told({ text: pieces.join(""), finishReason, usage }), inPieces: pieces.length > 1 };
  },

  async generateWithTools(given) {
    const asks = { model: model(given), prompt: given.question, maxRetries: 0, tools, stopWhen: stepCountIs(3) };
    const result = await generateText(asks);
    return { ...told(result), steps: result.steps.map(told) };
  },

  async streamWithTools(given) {
    const asks = { model: model(given), prompt: given.question, maxRetries: 0, tools, stopWhen: stepCountIs(3) };
    const result = streamText(asks);
    const parts = [];
    for await (const part of result.fullStream) parts.push(part.type);
    return { text: await result.text, steps: (await result.steps).map(told), parts };
  },
};

const acts = { ...sdkActs, ...aiSdkActs };

function failed(error) {
  return {
    failed: error.constructor.name,
    status: error.status ?? error.statusCode ?? null,
    type: error.type ?? error.data?.error?.type ?? null,
    message: error.message,
    body: error.error ?? error.data ?? null,
    retryable: error.isRetryable ?? null,
    request_id: error.requestID ?? null,
    headers: error.headers ? Object.fromEntries(error.headers.entries?.() ?? Object.entries(error.responseHeaders)) : null,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  const result = await acts[given.act](given).catch(failed);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
