"use strict";
// Shows /openapi.json and sends requests. Everything from the document or an answer is set as text, never as HTML.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// What stands between backticks is code.
const said = (text) => text.split("`").map((part, n) => (n % 2 ? element("code", { textContent: part }) : part));

const resolved = (schema, all) => {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? all[name] : schema || {};
};

const typeOf = (schema, all) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.filter((one) => one.type !== "null").map((one) => typeOf(one, all)).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items || {}, all)}[]`;
  return schema.type || "any";
};

const fieldsTable = (rows) => {
  const head = element("tr", {}, ...["Name", "Type", "Meaning"].map((text) => element("th", { textContent: text })));
  const body = rows.map(([name, type, meaning]) =>
    element("tr", {}, element("td", {}, element("code", { textContent: name })),
      element("td", { textContent: type }), element("td", {}, ...said(meaning))));
  return element("table", {}, head, ...body);
};

const parametersOf = (operation, all) => (operation.parameters || []).map((one) => [
  one.name, `${one.in}: ${typeOf(one.schema || {}, all)}`, one.description || (one.schema || {}).description || (one.required ? "required" : ""),
]);

const fieldsOf = (schema, all) => {
  const model = resolved(schema, all);
  const required = new Set(model.required || []);
  return Object.entries(model.properties || {}).map(([name, field]) => {
    const standard = field.default === undefined || field.default === null ? "" : `default ${JSON.stringify(field.default)}`;
    return [name, typeOf(field, all), [required.has(name) ? "required" : standard, field.description].filter(Boolean).join("; ")];
  });
};

const EXAMPLES = {
  prompt: { prompt: "Say hello.", backend: "offline" },
  parallel: { tasks: [{ prompt: "one", backend: "offline" }, { prompt: "two", backend: "offline" }] },
  chain: { steps: [{ prompt: "one", backend: "offline", name: "first" }, { prompt: "Go on: {{steps.first}}", backend: "offline" }] },
  compare: { prompt: "Which is best?", backends: ["offline"] },
  openai_chat: { model: "offline", messages: [{ role: "user", content: "Say hello." }] },
  anthropic_messages: { model: "offline", max_tokens: 100, messages: [{ role: "user", content: "Say hello." }] },
};

const send = async (method, path, inputs, body, output) => {
  const headers = {};
  const query = new URLSearchParams();
  let where = path;
  for (const [parameter, input] of inputs) {
    if (!input.value) continue;
    if (parameter.in === "path") where = where.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === "query") query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  const key = document.getElementById("key").value;
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  output.textContent = "...";
  try {
    const answer = await fetch(where + (query.size ? `?${query}` : ""), { method: method.toUpperCase(), headers, body });
    output.textContent = `${answer.status} ${answer.statusText}\n\n`;
    if (!answer.body) return; // 204
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      text += piece.value;
      output.textContent += piece.value;
    }
    try {
      output.textContent = `${answer.status} ${answer.statusText}\n\n${JSON.stringify(JSON.parse(text), null, 2)}`;
    } catch { /* a stream stays as it came */ }
  } catch (error) {
    output.textContent = String(error);
  }
};

const shown = (path, method, operation, all) => {
  const media = operation.requestBody && operation.requestBody.content["application/json"];
  const inputs = (operation.parameters || []).map((one) => [one, element("input", { placeholder: one.name, name: one.name })]);
  const body = media && element("textarea", { value: JSON.stringify(EXAMPLES[operation.operationId] || {}, null, 2), spellcheck: false });
  const output = element("pre", { hidden: true });
  const button = element("button", { type: "button", textContent: "Send" });
  button.addEventListener("click", () => {
    output.hidden = false;
    send(method, path, inputs, body && body.value, output);
  });
  const details = element("details", { id: operation.operationId },
    element("summary", {}, element("span", { className: `method ${method}`, textContent: method }),
      element("code", { textContent: path }), " ", ...said(operation.summary || "")));
  const rows = [...parametersOf(operation, all), ...(media ? fieldsOf(media.schema, all) : [])];
  if (rows.length) details.append(fieldsTable(rows));
  details.append(...inputs.map(([, input]) => input), ...(body ? [body] : []), button, output);
  return details;
};

const show = async () => {
  const description = await (await fetch("/openapi.json")).json();
  const all = description.components.schemas;
  document.getElementById("version").textContent = description.info.version;
  document.getElementById("description").textContent = description.info.description;
  const main = document.getElementById("operations");
  main.textContent = "";
  for (const tag of description.tags) {
    main.append(element("h2", { textContent: tag.description }));
    for (const [path, methods] of Object.entries(description.paths))
      for (const [method, operation] of Object.entries(methods))
        if (operation.tags.includes(tag.name)) main.append(shown(path, method, operation, all));
  }
  const wanted = document.getElementById(location.hash.slice(1) || "operations"); // /docs#prompt is a link to one of them
  if (wanted && wanted.tagName === "DETAILS") {
    wanted.open = true;
    wanted.scrollIntoView();
  }
};

show().catch((error) => { document.getElementById("operations").textContent = String(error); });
