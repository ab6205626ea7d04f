// The API's documentation, drawn from its OpenAPI schema; nothing is loaded from elsewhere.

import { get } from "./api.js";
import { el, failed, frame } from "./elements.js";

try {
  const schema = await get("/api/openapi.json");
  frame(el("h1", {}, "API"), el("p", {}, schema.info.description, " The schema itself: ", el("a", { href: "/api/openapi.json" }, "openapi.json"), "."),
    Object.entries(schema.paths).flatMap(([path, ways]) => Object.entries(ways).map(([way, facts]) => described(path, way, facts))));
} catch (error) {
  frame(el("h1", {}, "API"), failed(error));
}

function described(path, way, facts) {
  const parameters = (facts.parameters ?? []).filter((one) => one.name !== "token");
  return el("section", { class: "part" }, el("h2", { class: "mono" }, `${way.toUpperCase()} ${path}`),
    el("p", {}, facts.description ?? facts.summary, facts.security ? " Needs the token." : ""),
    parameters.length ? el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "Parameters" }, el("table", {}, el("tbody", {}, parameters.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name, one.required ? " (needed)" : ""),
      el("td", {}, values(one.schema)), el("td", {}, one.description ?? "")))))) : null);
}

function values(schema) {
  if (schema.enum) return schema.enum.filter(Boolean).join(", ");
  if (schema.anyOf) return schema.anyOf.filter((one) => one.type !== "null").map(values).join(" or ");
  if (schema.type === "array") return `${values(schema.items)}, repeatable`;
  return schema.type ?? "";
}
